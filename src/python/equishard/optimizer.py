"""equishard.Optimizer: a torch.optim.Optimizer whose weights, state and rules are with the owners of the job."""

import ctypes
import json
import os
import threading
import time
from collections import deque
from contextlib import contextmanager
from ctypes import c_double, c_int, c_size_t, c_void_p
from typing import NamedTuple

import torch

from . import _library, job
from ._library import PARTIAL, USAGE, EquishardError, call
from .hooks import after_accumulation
from .parameter import Parameter, named


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


class Optimizer(torch.optim.Optimizer):
    """An optimizer whose work is done by the owners of the job.

    model              a module, or an iterable of (name, tensor)
    config             path of the configuration (YAML)
    resume             restore weights and state: True from the configuration's checkpoint directory, or the path of a
                       checkpoint or of a directory of them; of what `equishard import` wrote, the weights alone.
                       Parameters that do not require a gradient have no part in it: unfrozen later, they need
                       `checkpoint: {partial: true}` in the configuration
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

    Every trainer of the job makes one, with the same parameters in the same order. The weights of a model are those of
    the first trainer, or of the checkpoint. `param_groups` holds one group for each of the configuration's that has
    parameters; its `lr` may be changed by torch's schedulers for example, between `step` and the next backward. `seconds`
    sums the time spent in push, step and pull.
    """

    _step_supports_amp_scaling = True  # torch's GradScaler leaves scale and checks to step()

    def __init__(self, model, config, resume=None, gradient_placement="Partial", weight_placement="Replicate",
                 placements=None, shapes=None, push_in_backward=None, grad_scaler=None):
        self._started = False
        self._grad_scaler = grad_scaler
        self._hooks = []
        self._scale = None  # of the step's gradients, once its settings are fixed
        self._copies = deque()  # parameters whose gradient is on its way to the library
        self._accumulates = False  # in no_sync
        self._lock = threading.RLock()  # hooks of tensors on several GPUs run in several threads
        self._session = c_void_p()
        self.seconds = {"push": 0.0, "step": 0.0, "pull": 0.0}
        call("eqs_session_open", job.world(), os.fsencode(config), ctypes.byref(self._session))
        job.opened(self)
        communicator = c_void_p()
        call("eqs_session_trainers", self._session, ctypes.byref(communicator))
        self.trainers = job.Trainers(communicator)

        default, placements, shapes = (gradient_placement, weight_placement), placements or {}, shapes or {}
        self._parameters = [Parameter(name, module_type, tensor, *placements.get(name, default), shapes.get(name),
                                      self.trainers)
                            for name, module_type, tensor in named(model)]
        self._by_tensor = {id(parameter.tensor): parameter for parameter in self._parameters}
        self._by_name = {parameter.name: parameter for parameter in self._parameters}
        unknown = (placements.keys() | shapes.keys()) - self._by_name.keys()
        if unknown:
            raise ValueError(f"placements or shapes for what is no parameter: {', '.join(sorted(unknown))}")

        self._start(resume)
        super().__init__(self._groups(), defaults={})
        self._started = True
        self._pull()
        if push_in_backward is None:
            push_in_backward = job.rank_count() > self.trainers.count
        self._hooks = [after_accumulation(parameter.tensor, lambda p=parameter: self._after_backward(p))
                       for parameter in self._parameters if push_in_backward and parameter.gradient == PARTIAL]

    def _start(self, resume):
        initial = [parameter.memory_of_weight() for parameter in self._parameters]
        for parameter, weight in zip(self._parameters, initial):
            parameter.handle = c_void_p()
            call("eqs_parameter_add", self._session, ctypes.byref(parameter.info()), weight.data_ptr(),
                 ctypes.byref(parameter.handle))
        if resume:
            call("eqs_session_resume", self._session, None if resume is True else os.fsencode(resume))
        call("eqs_session_start", self._session)

    def _groups(self):
        """torch's groups, from the configuration's that have parameters."""
        count = c_int()
        call("eqs_group_count", self._session, ctypes.byref(count))
        members = [[] for _ in range(count.value)]
        for parameter in self._parameters:
            description = _library.ParameterDescription()
            call("eqs_parameter_describe", parameter.handle, ctypes.byref(description))
            members[description.group].append(parameter.tensor)
        groups = []
        self._group_numbers, self._lr_in_force = [], []
        for number, tensors in enumerate(members):
            if tensors:
                info = _library.GroupInfo()
                call("eqs_group_describe", self._session, number, ctypes.byref(info))
                # A scheduler that continues a run starts from the configuration's rates.
                groups.append({"params": tensors, "lr": info.lr, "initial_lr": info.lr, "rule": info.rule.decode(),
                               "group": number})
                self._group_numbers.append(number)
                self._lr_in_force.append(info.lr)
        return groups

    def add_param_group(self, param_group):
        if self._started:
            raise NotImplementedError("the parameters and their groups are fixed when the optimizer is made")
        super().add_param_group(param_group)

    def push(self, parameter, gradient=None):
        """Start moving the gradient of a parameter (a tensor, or a name) before `step`, which pushes what is left.

        `gradient` is `parameter.grad` if not given; neither may change until `step` returns.
        """
        parameter = self._by_name[parameter] if isinstance(parameter, str) else self._by_tensor[id(parameter)]
        with self._timed("push"):
            self._push(parameter, parameter.tensor.grad if gradient is None else gradient)
            self._finish_copies()

    @contextmanager
    def no_sync(self):
        """Backwards under this push nothing: gradients accumulate, until one that is not under it pushes the sum."""
        before, self._accumulates = self._accumulates, True
        try:
            yield
        finally:
            self._accumulates = before

    def _after_backward(self, parameter):
        if self._accumulates:
            return
        if parameter.pushed is not None:
            raise EquishardError(
                f"'{parameter.name}' has a gradient of a second backward in this step, after that of the first was pushed: "
                "put `with optimizer.no_sync():` around all backwards of a step but the last", USAGE)
        with self._timed("push"), self._lock:
            self._push(parameter, parameter.tensor.grad)

    def _push(self, parameter, gradient):
        if self._scale is None:
            self._fix_settings(self._grad_scaler)
        parameter.take_gradient(gradient)
        self._copies.append(parameter)
        while self._copies and self._copies[0].gradient_is_there():
            self._hand_over()

    def _hand_over(self):
        parameter = self._copies.popleft()
        call("eqs_push", parameter.handle, parameter.pushed.data_ptr())

    def _finish_copies(self):
        while self._copies:
            self._copies[0].wait()
            self._hand_over()

    def _fix_settings(self, grad_scaler):
        """The step's settings go with its gradients: tell them before the first, refuse others after it."""
        scale = 1.0 if grad_scaler is None else grad_scaler.get_scale()
        if self._scale is None:
            self._set_lr()
            call("eqs_session_set_gradient_scale", self._session, c_double(scale))
            self._scale = scale
        elif scale != self._scale:
            raise EquishardError(
                f"gradients were pushed in backward as if their scale were {self._scale:g}; it is {scale:g}: make the "
                "optimizer with Optimizer(..., grad_scaler=scaler), and update the scaler after its step", USAGE)
        elif any(float(group["lr"]) != lr for group, lr in zip(self.param_groups, self._lr_in_force)):
            raise EquishardError("a learning rate was changed after the first gradient of the step was pushed: step the "
                                 "scheduler after optimizer.step()", USAGE)

    def _check_pushed(self):
        for parameter in self._parameters:
            if parameter.pushed is not None and parameter.gradient_was_changed():
                raise EquishardError(
                    f"the gradient of '{parameter.name}' was changed, set to zero or replaced after backward had pushed it: "
                    "call zero_grad after step, leave clipping to `clip_grad_norm` and scales to grad_scaler=, or make the "
                    "optimizer with push_in_backward=False", USAGE)

    def _pull(self):
        for parameter in self._parameters:
            memory = parameter.memory_for_weight()
            call("eqs_pull", parameter.handle, memory.data_ptr())
            parameter.take(memory)
        for parameter in self._parameters:
            parameter.wait()

    @torch.no_grad()
    def step(self, closure=None, grad_scaler=None):
        """Push the gradients, take a step, pull the weights. Collective over the trainers.

        A parameter whose gradient is None on all trainers stays as it is; one that has a gradient on some trainers gets
        zeros from the others.

        `scaler.step(optimizer)` of torch's GradScaler hands itself over: the owners divide its scale out, and with
        `on_nonfinite: skip` all scalers of the job learn alike that a step was skipped.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with self._timed("push"):
            self._fix_settings(grad_scaler or self._grad_scaler)
            self._check_pushed()
            # Gradients come into being in reverse order.
            for parameter in reversed(self._parameters):
                if parameter.pushed is None and parameter.tensor.grad is not None:
                    self._push(parameter, parameter.tensor.grad)
            self._finish_copies()
        with self._timed("step"):
            call("eqs_step", self._session)
        self._scale = None
        for parameter in self._parameters:
            parameter.release_gradient()
        skipped = self.step_info().skipped_last
        if grad_scaler is not None:
            device = self._parameters[0].tensor.device
            grad_scaler._per_optimizer_states[id(self)]["found_inf_per_device"] = {
                device: torch.full((), float(skipped), device=device)}
        if not skipped:
            with self._timed("pull"):
                self._pull()
        return loss

    def _set_lr(self):
        for index, group in enumerate(self.param_groups):
            lr = float(group["lr"])
            if lr != self._lr_in_force[index]:
                call("eqs_group_set_lr", self._session, self._group_numbers[index], c_double(lr))
                self._lr_in_force[index] = lr

    @contextmanager
    def _timed(self, phase):
        start = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - start

    def state_dict(self):
        """Learning rates and counts. Weights and state are in the checkpoints of the service."""
        return {**super().state_dict(), "step": self.step_info().step}

    def load_state_dict(self, state_dict):
        """Learning rates of a state_dict; it must be of the step that this optimizer is at."""
        step = self.step_info().step
        if state_dict["step"] != step:
            raise ValueError(f"a state of step {state_dict['step']}; the optimizer is at step {step}")
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})

    def checkpoint(self, **items):
        """Write a checkpoint. Collective over the trainers. Returns when weights and state are copied; the owners write
        while training goes on. If that fails, the next step(), checkpoint() or close() raises.

        items: the trainer's own data, by key: bytes, text, or what json can write. The first trainer's count.
        """
        encoded = {key: value if isinstance(value, bytes) else
                   value.encode() if isinstance(value, str) else json.dumps(value).encode()
                   for key, value in items.items()}
        array = _library.TrainerItem.array(len(encoded))
        for item, (key, value) in zip(array, encoded.items()):
            item.key, item.bytes, item.size = key.encode(), value, len(value)
        call("eqs_checkpoint", self._session, array, len(encoded))

    def checkpoint_due(self):
        """Whether the configuration asks for a checkpoint now, or the job is to stop."""
        return _library.checkpoint_due(self._session)

    def stop_requested(self):
        """Whether SIGTERM or SIGUSR1 asks the job to end: write a checkpoint, close(), end."""
        return _library.stop_requested(self._session)

    def trainer_data(self, key):
        """The bytes handed over under a key when the restored checkpoint was written, or None."""
        start, size = c_void_p(), c_size_t()
        call("eqs_trainer_data", self._session, key.encode(), ctypes.byref(start), ctypes.byref(size))
        return None if start.value is None else ctypes.string_at(start, size.value)

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

    @property
    def trainer_rank(self):
        return self.trainers.rank

    @property
    def trainer_count(self):
        return self.trainers.count

    def close(self):
        """End the session; the owners' programs end. Collective over the trainers; done at exit if not before."""
        if self._session:
            for hook in self._hooks:
                hook.remove()
            job.closed(self)
            call("eqs_session_close", ctypes.byref(self._session))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        # After an exception on this rank the others do not come to close; the end of the process sees to them.
        if kind is None:
            self.close()
