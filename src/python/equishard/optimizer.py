"""equishard.Optimizer: a torch.optim.Optimizer whose weights, state and rules are with the owners of the job."""

import collections.abc
import ctypes
import math
import os
import time
from contextlib import contextmanager
from ctypes import c_double, c_int, c_void_p
from typing import NamedTuple

import torch

from . import _library, configuration, job, torchcalls
from ._library import PARTIAL, REPLICATE, EquishardError, EquishardTypeError, EquishardUsageError, call
from .buffers import Buffers
from .checkpointing import Objects, TrainerData, check_own_state, pack_alike
from .clipping import Deferral
from .gradients import Gradients
from .groups import Groups, parameter_group
from .model import DTYPES, Structure, check, entries
from .parameter import Parameter, placements_of
from .scaler import GradientScale
from .weights import Weights


class StepInfo(NamedTuple):
    step: int  # taken since the beginning of training, restarts included
    skipped: int  # for non-finite gradients
    skipped_last: bool
    gradient_norm: float  # of the whole reduced gradient, before clipping


class Phase(NamedTuple):
    name: str
    minimum: float  # seconds, over the ranks that have the phase
    mean: float
    maximum: float
    slowest: int  # rank in MPI_COMM_WORLD of the maximum


class Traffic(NamedTuple):
    gradient_sent: int  # bytes
    gradient_received: int
    weight_sent: int
    weight_received: int
    messages_sent: int
    messages_received: int


def _form(tensor):
    """What the library relies on of a tensor, as fast as can be."""
    return tensor.dtype, tensor.numel()


def _check_arguments(resume, placements, shapes, grad_scaler):
    if resume is not None and not isinstance(resume, (bool, str, bytes, os.PathLike)):
        raise EquishardTypeError(f"resume is {resume!r:.80}: give True, \"auto\", or the path of a checkpoint or of a "
                                 "directory of them")
    for name, given, example in (("placements", placements, "{name: (\"Partial\", \"Replicate\")}"),
                                 ("shapes", shapes, "{name: (50257, 768)}")):
        if given is not None and not isinstance(given, collections.abc.Mapping):
            raise EquishardTypeError(f"{name} is a {type(given).__name__}: a dict is needed, {example}")
    if grad_scaler is not None and not callable(getattr(grad_scaler, "get_scale", None)):
        raise EquishardTypeError(f"grad_scaler is a {type(grad_scaler).__name__}: give torch's GradScaler")


def _number(value, name):
    try:
        return float(value)
    except (TypeError, ValueError):
        raise EquishardTypeError(f"clip_grad_norm_: {name} must be a number, is {value!r:.80}") from None


class Optimizer(torch.optim.Optimizer):
    """An optimizer whose work is done by the owners of the job.

    model              a module, or an iterable of (name, tensor). Parameters that do not require a gradient are frozen:
                       nothing is computed of them, but they are in checkpoints, and a restart restores them
    config             the configuration: path of a YAML file, its text, or a dict
    resume             restore weights and state: True from the configuration's checkpoint directory, or the path of a
                       checkpoint or of a directory of them; "auto": from the configuration's directory if there is a
                       checkpoint, else begin. Of what `equishard import` wrote, the weights alone. `resumed` tells
    overrides          dict of configuration keys that win over those of `config`
    buffers            whether checkpoints have the model's buffers, those of the first trainer (True)
    gradient_placement, weight_placement
                       how the trainers hold tensors, in DTensor's words: "Partial", "Replicate", "Shard(0)".
                       With Partial gradients the push is their reduction: no all-reduce is needed
    placements         name -> (gradient, weight) placement, for those that differ
    shapes             name -> shape of the full tensor, where the weight is Shard(0)
    push_in_backward   push every Partial gradient as soon as backward has made it, so that owners work meanwhile; in
                       service mode, if not given. Then a gradient must stay as backward leaves it until `step` returns
                       (the service clips: `clip_grad_norm`), and of several backwards in a step all but the last are
                       under `no_sync`
    grad_scaler        torch's GradScaler, if the loss is multiplied by its scale
    clips_gradients    whether the program calls `clip_grad_norm_`, for which owners wait until they have all gradients of
                       a step; if not given, they do so in the first step, and in all after a call
    check_writes       False: of what the program writes to weights and gradients, notice only what torch's counter of
                       writes sees, which is not what goes through `tensor.data`

    Every trainer of the job makes one, with the same parameters in the same order. The weights of a model are those of
    the first trainer, or of the checkpoint. `param_groups` holds one group for each of the configuration's that has
    parameters; its `lr` may be changed by torch's schedulers for example, between `step` and the next backward. `seconds`
    sums the time spent in push, step and pull.
    """

    _step_supports_amp_scaling = True  # torch's GradScaler leaves scale and checks to step()

    def __init__(self, model, config=None, resume=None, gradient_placement="Partial", weight_placement="Replicate",
                 placements=None, shapes=None, push_in_backward=None, grad_scaler=None, overrides=None, buffers=True,
                 clips_gradients=None, check_writes=True):
        self._started = False
        self._handle = c_void_p()
        self.trainers = self._gradients = self._scale = None
        self.seconds = {"push": 0.0, "step": 0.0, "pull": 0.0}
        world = job.world()  # from here on errors end the job with their status
        _check_arguments(resume, placements, shapes, grad_scaler)
        job.close_failed()
        found, self._buffers = self._look_at(model, buffers)
        self._structure = Structure(model)
        configuration.open_session(world, config, overrides, ctypes.byref(self._handle))
        job.opened(self)
        try:
            communicator = c_void_p()
            call("eqs_session_trainers", self._session, ctypes.byref(communicator))
            self.trainers = job.Trainers(communicator)
            with job.alike(self.trainers):
                self._add_parameters(found, (gradient_placement, weight_placement), placements or {}, shapes or {})
            self._start(resume)
            with job.alike(self.trainers):
                self._begin(check_writes)
                self._watch(push_in_backward, grad_scaler, clips_gradients, check_writes)
        except Exception:  # on all trainers, so that they can close together and go on with another session
            self._leave()
            raise

    def _add_parameters(self, found, default, placements, shapes):
        self._all_parameters = [Parameter(entry, *placements_of(placements, entry.name, default),
                                          shapes.get(entry.name), self.trainers) for entry in found]
        self._tensors = [parameter.tensor for parameter in self._all_parameters]
        self._forms = list(map(_form, self._tensors))
        self._parameters = [parameter for parameter in self._all_parameters if not parameter.frozen]
        self._frozen = [parameter for parameter in self._all_parameters if parameter.frozen]
        self._by_tensor = {id(parameter.tensor): parameter for parameter in self._parameters}
        self._by_name = {name: parameter for parameter in self._parameters
                         for name in [parameter.name, *parameter.other_names]}
        unknown = (placements.keys() | shapes.keys()) - {entry.name for entry in found}
        if unknown:
            raise EquishardUsageError(f"placements or shapes for what is no parameter: {', '.join(sorted(unknown))}")
        self._initial = [parameter.memory_of_weight() for parameter in self._all_parameters]
        handles = {}
        for parameter, weight in zip(self._all_parameters, self._initial):
            parameter.handle, other = c_void_p(), c_void_p()
            call("eqs_parameter_add", self._session, ctypes.byref(parameter.info()), weight.data_ptr(),
                 ctypes.byref(parameter.handle))
            first = handles.setdefault(parameter.handle.value, parameter)
            if first is not parameter:
                raise EquishardUsageError(f"parameters '{first.name}' and '{parameter.name}' are two nn.Parameters "
                                          "with the same memory: make them one object (a.weight = b.weight), or copy")
            for name in parameter.other_names:
                call("eqs_parameter_add", self._session, ctypes.byref(parameter.info(name)), weight.data_ptr(),
                     ctypes.byref(other))

    def _begin(self, check_writes):
        """The session has started: take over its groups and weights."""
        groups = self._make_groups()
        super().__init__(self._groups.for_torch(), defaults={})
        self.defaults = self._groups.defaults()
        self._started = True
        self._step_counts = self._count_steps(groups)
        self._weights = Weights(self._parameters, self._frozen, check_writes)
        self._weights.pull(with_frozen=True)
        self._weights.remember()
        self._restore()

    def _watch(self, push_in_backward, grad_scaler, clips_gradients, check_writes):
        """From now on look at what backward and the program do to gradients."""
        if push_in_backward is None:
            push_in_backward = job.rank_count() > self.trainers.count
        partial = [parameter for parameter in self._parameters if parameter.gradient == PARTIAL]
        alone = self.trainers.count == 1
        self._gradients = Gradients(
            self._parameters, pushed=partial if push_in_backward else [],
            watched=[] if push_in_backward or alone else partial, look=self._weights.look, begin=self._begin_step,
            fingerprints=check_writes, timed=self._timed)
        self._scale = GradientScale(self, self._gradients, grad_scaler, push_in_backward)
        self._step_scaler = None  # the scaler that calls step
        self._scale_told = None  # to the library, of the step under way
        self._deferral = Deferral(self._handle, clips_gradients)
        self._warned_of_changes = False
        torchcalls.listen(self)

    @staticmethod
    def _look_at(model, buffers):
        """(what owners hold, buffers): frozen parameters of a dtype that they do not hold are kept as buffers are."""
        is_module, found, others = isinstance(model, torch.nn.Module), [], []
        for entry in entries(model):
            if is_module and entry.frozen and entry.tensor.dtype not in DTYPES:
                others.append((entry.name, entry.tensor))
            else:
                check(entry)
                found.append(entry)
        if all(entry.frozen for entry in found):
            raise EquishardUsageError("no parameter of the model requires a gradient: there is nothing to train")
        return found, Buffers(model, others) if buffers else None

    def _start(self, resume):
        for key, number in self._structure.config_numbers():
            call("eqs_session_tell_model", self._session, key.encode(), number)
        if isinstance(resume, str) and resume == "auto":
            call("eqs_session_resume_if_any", self._session, None)
        elif resume:
            call("eqs_session_resume", self._session, None if resume is True else os.fsencode(resume))
        call("eqs_session_start", self._session)
        del self._initial
        self.resumed = _library.session_resumed(self._session)

    def _make_groups(self):
        """The configuration's groups that have parameters; {tensor: steps that it had taken} of all parameters."""
        members, steps = {}, {}
        for parameter in self._parameters:
            number, _, steps[parameter.tensor] = parameter_group(parameter.handle)
            members.setdefault(number, []).append(parameter.tensor)
        self._groups = Groups(self._session, members, speaks=self.trainers.rank == 0)
        return steps

    def _count_steps(self, steps):
        """Every parameter has a state: how many steps it has taken. Those of one count share a tensor."""
        counts, begin = {}, self.step_info().step
        for tensor, step in steps.items():
            self.state[tensor] = {"step": counts.setdefault(step, torch.tensor(float(step)))}
        return [(count, step - begin) for step, count in counts.items()]

    def _restore(self):
        """What a checkpoint has besides weights and their state."""
        self._data = TrainerData(self._session, self.trainers)
        self._objects = Objects(self._data.read("equishard.objects"), self.resumed, self.trainers.rank == 0)
        if not self.resumed:
            return
        self._groups.keep_restored(self.param_groups, self.step_info().step)
        saved = self._data.read("equishard.buffers")
        if saved is not None and self._buffers is not None:
            self._buffers.restore(saved, speaks=self.trainers.rank == 0)

    def register_for_checkpointing(self, **objects):
        """Objects that checkpoints are to have, by name: learning rate schedulers, a GradScaler, whatever has `state_dict`
        and `load_state_dict`. If a checkpoint was restored, they are put at once where they were, and param_groups
        too, which a scheduler's constructor changes. The first trainer's count. Nothing of them is pickled: what is no
        number, text, list, dict or tensor (functions, such as a LambdaLR's) stays as the new object has it.
        """
        self._check_open()
        for name, value in objects.items():
            self._objects.add(name, value)
            if self._objects.restore(name, self._groups.rearranged):
                self._groups.rescale(value)
                self._groups.put_back(self.param_groups)

    def set_lr_factor(self, factor):
        """Set the learning rate of every group to the configuration's times a factor, from the next step on."""
        self._check_open()
        try:
            number = float(factor)
        except (TypeError, ValueError):
            raise EquishardTypeError(f"set_lr_factor: a number is needed, is {factor!r:.80}") from None
        if not 0 <= number < math.inf:
            raise EquishardUsageError(f"set_lr_factor: the factor must be finite and at least 0, is {number:g}")
        self._groups.set_lr_factor(self.param_groups, number)

    def add_param_group(self, param_group):
        if self._started:
            raise EquishardUsageError("a group is added after the optimizer was made: parameters are fixed then, and "
                                      "groups are the configuration's; close() the optimizer and make another")
        super().add_param_group(param_group)

    def push(self, parameter, gradient=None):
        """Start moving the gradient of a parameter (a tensor, or a name) before `step`, which pushes what is left.

        `gradient` is `parameter.grad` if not given; neither may change until `step` returns.
        """
        self._check_open()
        given = parameter
        parameter = self._by_name.get(given) if isinstance(given, str) else self._by_tensor.get(id(given))
        if parameter is None:
            what = f"'{given}'" if isinstance(given, str) else "a tensor"
            raise EquishardUsageError(f"{what} is pushed that is no parameter with a gradient of this optimizer")
        gradient = parameter.tensor.grad if gradient is None else gradient
        if gradient is None:
            raise EquishardUsageError(f"parameter '{parameter.name}' is pushed and has no gradient")
        if not isinstance(gradient, torch.Tensor):
            raise EquishardTypeError(f"parameter '{parameter.name}' is pushed with {gradient!r:.80}: the gradient must be a "
                                     "tensor")
        with self._timed("push"):
            self._gradients.push(parameter, gradient)

    @contextmanager
    def no_sync(self):
        """Backwards under this push nothing: gradients accumulate, until one that is not under it pushes the sum."""
        self._check_open()
        gradients = self._gradients
        before, gradients.accumulates = gradients.accumulates, True
        try:
            yield
        finally:
            gradients.accumulates = before

    def weights_changed(self):
        """Say that the program has written to weights: all of them become the owners' before the next step's gradient is
        applied. Writes are noticed without it, but for a few elements of a large tensor written through `tensor.data`.
        """
        self._check_open()
        if self._gradients.any_pushed:
            raise EquishardUsageError("weights_changed is called after a gradient of the step was pushed: write to "
                                      "weights before backward or after step, or make the optimizer with push_in_backward=False")
        self._weights.mark_all()

    def _begin_step(self):
        """What a step is taken with goes before its first gradient; later changes are refused."""
        self._check_model()
        self._objects.warn_of_missing()
        self._groups.send(self.param_groups)
        self._deferral.begin_step()
        scale = self._scale.now(self._step_scaler)
        call("eqs_session_set_gradient_scale", self._session, c_double(scale))
        self._scale_told = scale
        self._weights.put_written()

    def _check_begun_step(self):
        """That nothing of what gradients were pushed with was changed since."""
        if self._scale_told is None:
            return
        self._scale.check(self._scale_told, self._step_scaler)
        self._groups.check_unchanged(self.param_groups)
        self._weights.refuse_later_writes()

    def _check_model(self):
        """Whether the model still has the parameters that the optimizer was made with."""
        self._structure.check()
        for parameter in self._frozen:
            if parameter.tensor.requires_grad:
                raise EquishardUsageError(
                    f"parameter '{parameter.name}' requires a gradient since the optimizer was made, when it was "
                    "frozen: it would not be trained; call requires_grad_ before, or write a checkpoint, close() the "
                    "optimizer and make another with resume=True")
        if list(map(_form, self._tensors)) != self._forms:
            for parameter in self._all_parameters:
                parameter.check_form()

    def _check_gradients(self):
        """That nobody has changed gradients since backward."""
        changed = self._gradients.changed()
        for parameter, pushed in changed:
            if pushed:
                raise EquishardUsageError(
                    f"the gradient of '{parameter.name}' was changed, set to zero or replaced after backward had "
                    "pushed it: clip with optimizer.clip_grad_norm_(max_norm), call zero_grad after step, leave the "
                    "loss's scale to grad_scaler=; other changes need push_in_backward=False")
        # A scaler that is not torch's may have divided gradients unseen.
        if changed and not self._scale.unscaled_unseen(self._step_scaler):
            self._warn_of_change(f"the gradient of '{changed[0][0].name}' was changed between backward and step")

    def _warn_of_change(self, what):
        if not self._warned_of_changes:
            self._warned_of_changes = True
            job.warn(
                f"{what}. It is this trainer's part of the gradient, of {self.trainers.count}: to divide all by a number "
                "is right, but torch's clip_grad_norm_ and clip_grad_value_ clip every part by itself, which is not the "
                "clipped gradient. Call optimizer.clip_grad_norm_(max_norm) instead")

    def torch_clips(self, function, tensors):
        """torch's function is about to clip tensors, of this optimizer perhaps."""
        mine = [self._by_tensor[id(tensor)] for tensor in tensors if id(tensor) in self._by_tensor]
        mine = [parameter for parameter in mine if parameter.tensor.grad is not None]
        pushed = [parameter for parameter in mine if parameter.pushed is not None]
        by_value = function == "clip_grad_value_"
        if pushed:
            instead = ("make the optimizer with push_in_backward=False, and mind that the function clips every trainer's "
                       "part of the gradient by itself: it is exact with one trainer only; or clip by the norm, with "
                       "optimizer.clip_grad_norm_(max_norm)") if by_value else "call optimizer.clip_grad_norm_(max_norm)"
            raise EquishardUsageError(f"torch's {function} is called on the gradient of '{pushed[0].name}', which has been "
                                      f"pushed already, so that owners would not see it: {instead}")
        # Clipping by value is right for rows of a gradient, too.
        wrong = [parameter for parameter in mine
                 if parameter.gradient == PARTIAL or (parameter.gradient != REPLICATE and not by_value)]
        if wrong and self.trainers.count > 1:
            self._warn_of_change(f"torch's {function} changes the gradient of '{wrong[0].name}'")

    def torch_unscales(self):
        """A GradScaler is about to divide the gradients."""
        pushed = [parameter for parameter in self._parameters if parameter.pushed is not None]
        if pushed:
            raise EquishardUsageError(
                f"scaler.unscale_ is called after the gradient of '{pushed[0].name}' was pushed, with the loss's scale in "
                "it: make the optimizer with Optimizer(..., grad_scaler=scaler)")

    def torch_unscaled(self):
        self._gradients.watch_again()
        self._scale.unscale_seen = True

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm, norm_type=2.0, error_if_nonfinite=False):
        """Clip the step under way by the norm of the whole gradient, as it is after the reduction over trainers and without
        the loss's scale: what torch.nn.utils.clip_grad_norm_ does in one process. Between backward and step; pushes what
        is left, and returns the norm. Collective over the trainers.
        """
        self._check_open()
        max_norm = _number(max_norm, "max_norm")
        if _number(norm_type, "norm_type") != 2.0:
            raise EquishardUsageError(f"clip_grad_norm_: norm_type must be 2, is {norm_type}")
        norm = c_double()
        with self._timed("push"):
            self._push_rest(watch=True)
        with self._timed("step"):
            self._deferral.clip(max_norm, norm)
        if error_if_nonfinite and not math.isfinite(norm.value):
            raise RuntimeError(f"the total norm of order {norm_type} for gradients is non-finite, so it cannot be clipped")
        return torch.tensor(norm.value, dtype=torch.float32, device=self._parameters[0].tensor.device)

    def _push_rest(self, watch=False):
        self._gradients.settle()
        self._check_begun_step()
        self._check_gradients()
        self._gradients.push_rest(watch)

    @torch.no_grad()
    def step(self, closure=None, grad_scaler=None):
        """Push the gradients, take a step, pull the weights. Collective over the trainers.

        A parameter whose gradient is None on all trainers stays as it is; one that has a gradient on some trainers gets
        zeros from the others.

        `scaler.step(optimizer)` of torch's GradScaler hands itself over: the owners divide its scale out, and with
        `on_nonfinite: skip` all scalers of the job learn alike that a step was skipped.
        """
        self._check_open()
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with self._timed("push"):
            self._step_scaler = grad_scaler
            self._push_rest()
        with self._timed("step"):
            call("eqs_step", self._session)
        self._gradients.release()
        self._weights.release()
        self._deferral.end_step()
        self._scale.unscale_seen = False
        self._step_scaler = self._scale_told = None
        info = self.step_info()
        for count, offset in self._step_counts:
            count.fill_(info.step + offset)
        self._scale.stepped(grad_scaler, info.skipped_last)
        if not info.skipped_last:
            with self._timed("pull"):
                self._weights.pull()
        self._weights.remember()
        return loss

    @contextmanager
    def _timed(self, phase):
        start = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - start

    def state_dict(self):
        """param_groups and counts of steps. Weights and their state are with the owners, and in their checkpoints."""
        return {**super().state_dict(), "step": self.step_info().step}

    def load_state_dict(self, state_dict):
        """param_groups of a state_dict; it must be of the step that this optimizer is at. Weights and state come back
        with resume=."""
        check_own_state(state_dict, self.step_info().step, self.param_groups)
        state = self.state
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        self.state = state

    def __reduce_ex__(self, protocol):
        raise EquishardTypeError("an equishard.Optimizer cannot be copied or pickled: weights and state are with the "
                                 "owners of the job. Copy the model; write a checkpoint with optimizer.checkpoint(), "
                                 "or take optimizer.state_dict()")

    def __deepcopy__(self, memo):
        self.__reduce_ex__(4)

    def checkpoint(self, *, per_trainer=None, **items):
        """Write a checkpoint. Collective over the trainers. Returns when weights and state are copied; the owners write
        while training goes on. If that fails, the next step(), checkpoint() or close() raises.

        items        the trainers' own data, by key: bytes, text, or what json can write. The first trainer's count
        per_trainer  dict of data that every trainer has of its own, such as random states and positions of samplers

        param_groups, registered objects and the model's buffers are in it, too.
        """
        self._check_open()
        if not self._gradients.any_pushed:
            self._weights.look()
            self._weights.put_written()
            self._groups.send(self.param_groups)  # what a scheduler has changed since the step is in the checkpoint
        first = self.trainers.rank == 0
        # torch's schedulers put a step() of theirs in the place of the class's
        own = {"equishard.groups": self._groups.encode(self.param_groups) if first else b"",
               "equishard.objects": self._objects.encode("step" in vars(self)) if first else b""}
        if self._buffers is not None:
            own["equishard.buffers"] = self._buffers.encode() if first else b""
        array, _kept = pack_alike(self.trainers, items, {} if per_trainer is None else per_trainer, own)
        call("eqs_checkpoint", self._session, array, len(array))

    def checkpoint_due(self):
        """Whether the configuration asks for a checkpoint now, or the job is to stop."""
        return _library.checkpoint_due(self._session)

    def stop_requested(self):
        """Whether SIGTERM or SIGUSR1 asks the job to end: write a checkpoint, close(), end."""
        return _library.stop_requested(self._session)

    def trainer_data(self, key):
        """What was handed over under a key when the restored checkpoint was written, or None: bytes; of values in
        per_trainer that json cannot write, such as tensors, the value.

        What every trainer had of its own comes back to the trainer of the same number; if the number of trainers has
        changed, to all of them as the list of all.
        """
        self._check_open()
        if not isinstance(key, str):
            raise EquishardTypeError(f"trainer_data: the key must be a text, is {key!r:.80}")
        return self._data.get(key)

    def step_info(self):
        """What the last step did."""
        info = _library.StepInfo()
        call("eqs_session_step_info", self._session, ctypes.byref(info))
        return StepInfo(info.step, info.skipped, bool(info.skipped_last), info.gradient_norm)

    def phases(self):
        """Seconds per phase since the start. Collective over the trainers."""
        capacity, count = 64, c_int()
        phases = _library.Phase.array(capacity)
        call("eqs_session_phases", self._session, phases, capacity, ctypes.byref(count))
        return [Phase(phase.name.decode(), phase.minimum, phase.mean, phase.maximum, phase.slowest)
                for phase in phases[:count.value]]

    def traffic(self):
        """Bytes and messages moved by this rank since the start."""
        traffic = _library.Traffic()
        call("eqs_session_traffic", self._session, ctypes.byref(traffic))
        return Traffic(*(getattr(traffic, name) for name in Traffic._fields))

    def _check_open(self):
        if not self._handle:
            raise EquishardUsageError("the optimizer is closed")

    @property
    def _session(self):
        self._check_open()
        return self._handle

    @property
    def trainer_rank(self):
        return self.trainers.rank

    @property
    def trainer_count(self):
        return self.trainers.count

    @property
    def failed(self):
        """Whether a collective call has failed, on all ranks: `close` is all that is left then, and waits for nobody."""
        return bool(self._handle) and _library.session_failed(self._handle)

    def close(self):
        """End the session; the owners' programs end. Collective over the trainers, but where `failed`; done at exit if
        not before."""
        if self._handle:
            self._leave()

    def _leave(self):
        """Nothing of the session is used any more."""
        torchcalls.forget(self)
        if self._gradients is not None:
            self._gradients.close()
        if self._scale is not None:
            self._scale.close()
        if self.trainers is not None:
            self.trainers.close()
        job.closed(self)
        call("eqs_session_close", ctypes.byref(self._handle))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        """After an exception on this rank alone the others do not come to close; the end of the process sees to them."""
        if kind is None:
            self.close()
        elif self.failed or (self._handle and job.rank_count() == 1):
            try:
                self.close()
            except EquishardError:  # the library has printed it; the program's exception counts
                pass
