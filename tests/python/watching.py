"""The trainer of test_client_writes.py: `watching.py --mode MODE --directory DIR GROUP`, on every trainer of a job. One
session after another in one process, each beside torch's AdamW in one process, in float64. Prints what is wrong."""
import argparse
import enum
import os
import pathlib
import sys
import warnings
from collections import defaultdict

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_ as imported_norm
from torch.nn.utils.clip_grad import clip_grad_value_ as imported_value

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

import equishard
from equishard.parameter import Parameter

options = argparse.ArgumentParser()
options.add_argument("group")
options.add_argument("--mode")
options.add_argument("--directory", type=pathlib.Path)
options.add_argument("--device", default="cpu")
options.add_argument("--staged", action="store_true", help="move CPU tensors as if they were on a GPU")
options = options.parse_args()
torch.set_num_threads(1)
checks = job.Checks()
COUNT, RANK = int(os.environ["TRAINERS"]), int(os.environ["OMPI_COMM_WORLD_RANK"])
EMBEDDED = options.mode == "embedded"

if options.staged:
    class There:
        def query(self):
            return True

    Parameter.on_gpu = True
    Parameter.wait = lambda self: None
    Parameter.record_event = lambda self: There()
    Parameter.allocate_pinned = staticmethod(lambda count, dtype: torch.empty(count, dtype=dtype))

ADAMW = {"rule": "adamw", "lr": 0.05, "weight_decay": 0.1}
TORCH = {"lr": 0.05, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
SHAPES = {"small": (5, 3), "bias": (7,), "turned": (8, 6), "large": (90, 70), "scalar": ()}  # large: more than 16 KiB


def configuration(**more):
    return {"mode": options.mode, "groups": [{"match": {}, **ADAMW}], **more}


def numbers(*seed, shape):
    """Multiples of 1/64, exact in every type."""
    seed = [sum(map(ord, word)) if isinstance(word, str) else word for word in seed]
    values = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed))).integers(-64, 65, shape)
    return torch.from_numpy(np.asarray(values / 64)).float()


def parameters(dtype=torch.float32):
    made = {name: numbers(name, 99, shape=shape).to(dtype) for name, shape in SHAPES.items()}
    made["turned"] = made["turned"].t().contiguous().t()  # not contiguous
    return {name: torch.nn.Parameter(tensor.to(options.device)) for name, tensor in made.items()}


class Pair:
    """An optimizer, and torch's AdamW in float64 with the gradients of all trainers."""

    def __init__(self, tensors=None, config=None, **arguments):
        self.tensors = parameters() if tensors is None else tensors
        self.reference = {name: torch.nn.Parameter(tensor.detach().double().cpu()) for name, tensor in self.tensors.items()
                          if tensor.requires_grad}
        self.torch = torch.optim.AdamW(self.reference.values(), **TORCH)
        self.ours = equishard.Optimizer(self.tensors.items(), config or configuration(), **arguments)

    def backward(self, step, scale=1.0):
        loss = sum((tensor * numbers(name, step, RANK, shape=tensor.shape).to(tensor)).sum()
                   for name, tensor in self.tensors.items() if tensor.requires_grad) * scale
        loss.backward()
        for name, tensor in self.reference.items():
            tensor.grad = sum(numbers(name, step, rank, shape=tensor.shape).double() for rank in range(COUNT)) / COUNT

    def step(self, step):
        self.backward(step)
        self.ours.step()
        self.torch.step()
        self.ours.zero_grad()

    def write(self, way):
        """The same writes to both, inside `way(tensor, name)`."""
        for mine in (self.tensors, self.reference):
            for name, tensor in mine.items():
                way(tensor, name)

    def agree(self, what, limit=1e-5):
        for name, tensor in self.reference.items():
            error = (self.tensors[name].detach().double().cpu() - tensor.detach()).abs().max().item()
            checks.at_most(error, limit, f"{what}: {name}: error against torch.optim.AdamW")

    def close(self):
        self.ours.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if error[0] is None:
            self.close()


def fails(action, *words):
    """The message of the usage error that an action must end with."""
    try:
        action()
    except equishard.EquishardError as error:
        checks.that(error.status == 2, f"status {error.status}: {error}")
        for word in words:
            checks.that(word in str(error), f"{word!r} is not in: {error}")
    else:
        checks.that(False, f"no error that says {words}")


# ----- writes to weights -----

def assign(tensor, name):
    tensor.data.copy_(numbers(name, 5, shape=tensor.shape))


def clamp(tensor, name):
    with torch.no_grad():
        tensor.clamp_(-0.2, 0.2)


def one_row(tensor, name):
    if tensor.dim() == 2:
        tensor.data[1] = 0.5


def replace_memory(tensor, name):
    tensor.data = tensor.data * 0.5


def writes():
    """Every way to write takes effect at the next step, with momentum kept."""
    with Pair() as pair:
        pair.write(assign)  # load_state_dict of pretrained weights, before the first step
        for step, way in enumerate((None, assign, clamp, one_row, replace_memory, None)):
            if way is not None:
                pair.write(way)
            pair.step(step)
            pair.agree(f"written by {way and way.__name__}")


def marked():
    """Without a look at values, what goes through .data is said; a single element of a large tensor, too."""
    with Pair(check_writes=False) as pair:
        pair.step(0)
        pair.write(assign)
        pair.ours.weights_changed()
        pair.step(1)
        pair.agree("weights_changed")
        pair.write(clamp)  # torch counts these
        pair.step(2)
        pair.agree("counted")


def shards():
    """Of a weight that is split, a trainer writes its rows; those of the others stay."""
    rows = -(-9 // COUNT)
    full = numbers("split", 1, shape=(9, 4))
    mine = torch.nn.Parameter(full[RANK * rows:(RANK + 1) * rows].to(options.device, copy=True))
    reference = torch.nn.Parameter(full.double())
    other = torch.optim.AdamW([reference], **TORCH)
    with equishard.Optimizer([("split", mine)], configuration(), gradient_placement="Shard(0)",
                             weight_placement="Shard(0)", shapes={"split": (9, 4)}) as ours:
        for step in range(3):
            if step == 1 and RANK == 0:
                mine.data.fill_(0.25)
            if step == 1:
                reference.data[:rows] = 0.25
            gradient = numbers("split", 2, step, shape=(9, 4))
            mine.grad, reference.grad = gradient[RANK * rows:(RANK + 1) * rows].to(mine, copy=True), gradient.double()
            ours.step()
            other.step()
        error = (mine.detach().double().cpu() - reference.detach()[RANK * rows:(RANK + 1) * rows]).abs().max().item()
        checks.at_most(error, 1e-5, "rows written by one trainer")


def frozen():
    """A frozen weight that is written to, and weights written to after the last step, are so in the checkpoint."""
    import h5py

    directory = options.directory / "frozen"
    tensors = {"trained": torch.nn.Parameter(torch.ones(4, 3, device=options.device)),
               "still": torch.nn.Parameter(torch.ones(3, device=options.device), requires_grad=False)}
    with Pair(tensors, configuration(checkpoint={"directory": str(directory)})) as pair:
        tensors["still"].data.fill_(7)
        pair.step(0)
        pair.agree("beside a frozen one")
        checks.that(torch.equal(tensors["still"].detach().cpu(), torch.full((3,), 7.0)), "a frozen weight stays as it was written")
        tensors["trained"].data.fill_(3)
        pair.ours.checkpoint()
    if RANK == 0:
        with h5py.File(directory / "latest") as file:
            checks.that((file["parameters/still/weight"][()] == 7).all(), "the frozen weight is in the checkpoint as written")
            checks.that((file["parameters/trained/weight"][()] == 3).all(), "a weight written after the step, too")


def with_gaps():
    """Weights with others' memory between their elements: writes through `.data` are seen in them, and what is between is
    nobody's."""
    memory = torch.ones(4, 8, device=options.device)
    large = torch.ones(300, 80, device=options.device)
    tensors = {"columns": torch.nn.Parameter(memory[:, :5]), "many": torch.nn.Parameter(large[:, 3:70])}
    with Pair(tensors) as pair:
        pair.step(0)
        for step in (1, 2):
            pair.write(lambda tensor, name: tensor.data[1:].fill_(step + 0.5))
            memory[:, 6] = step
            pair.step(step)
            pair.agree(f"weights with gaps, step {step}")
        pair.step(3)
        pair.agree("weights with gaps, not written")
    checks.that((memory[:, 5] == 1).all() and (large[:, 70:] == 1).all(), "what is between is not written")


def narrow():
    """bfloat16: what was not written keeps what float32 knows of it."""
    tensor = torch.nn.Parameter(torch.ones(64, dtype=torch.bfloat16, device=options.device))
    rule = {"match": {}, **ADAMW, "lr": 2.0**-12, "weight_decay": 0.0}
    with equishard.Optimizer([("narrow", tensor)], configuration(groups=[rule])) as ours:
        for step in range(26):  # each less than half a unit of bfloat16: together more
            with torch.no_grad():
                tensor.clamp_(-4, 4)  # counted as a write, and changes nothing
            tensor.grad = torch.ones_like(tensor)
            ours.step()
        checks.at_most((tensor.detach().float() - (1 - 26 * 2.0**-12)).abs().max().item(), 2.0**-9,
                       "26 steps of a 4096th, with writes that change nothing")


def different():
    """Trainers that wrote different values."""
    pair = Pair()
    pair.step(0)
    pair.tensors["small"].data.fill_(RANK)
    pair.backward(1)
    fails(pair.ours.step, "'small'", "different values")
    pair.close()


def only_some():
    pair = Pair()
    pair.step(0)
    if RANK == 0:
        pair.tensors["small"].data.fill_(3)
    pair.backward(1)
    fails(pair.ours.step, "'small'", "only some")
    pair.close()


def too_late():
    """A weight written to after gradients went out."""
    for way in (assign, clamp):
        pair = Pair(push_in_backward=True)
        pair.step(0)
        pair.backward(1)
        way(pair.tensors["small"], "small")
        fails(pair.ours.step, "'small'", "written to after backward", "push_in_backward=False")
        fails(pair.ours.weights_changed, "after a gradient")
        pair.close()


# ----- gradients -----

def halve(tensor):
    tensor.grad.data.mul_(0.5)


def changed_gradients():
    """Changes after backward has pushed, by torch's functions or through .data, are refused on every trainer."""
    ways = [halve, lambda tensor: torch.nn.utils.clip_grad_value_([tensor], 1e-3),
            lambda tensor: torch.nn.utils.clip_grad_norm_([tensor], 1e-3),
            lambda tensor: setattr(tensor.grad, "data", tensor.grad.data * 2)]
    for name in "small", "large", "turned":
        for way in ways:
            pair = Pair(push_in_backward=True)
            pair.backward(0)

            def change_and_step():
                way(pair.tensors[name])
                pair.ours.step()

            fails(change_and_step, f"'{name}'", "optimizer.clip_grad_norm_(max_norm)")
            pair.close()


def warnings_of(action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(warning.message) for warning in caught if "clip_grad_norm_" in str(warning.message)]


def torch_clips():
    """torch's own clipping of every trainer's part is warned of, once; not where a gradient is left alone."""
    with Pair(push_in_backward=False) as pair:
        checks.that(warnings_of(lambda: pair.step(0)) == [], "no warning of gradients as backward made them")
        for step, expected in ((1, COUNT > 1), (2, 0)):
            pair.backward(step)
            found = warnings_of(lambda: torch.nn.utils.clip_grad_norm_(pair.tensors.values(), 1e-3))
            found += warnings_of(pair.ours.step)
            checks.that(len(found) == expected, f"{len(found)} warnings, not {expected}")
            checks.that(all("optimizer.clip_grad_norm_(max_norm)" in text for text in found), f"what to do: {found}")
            pair.ours.zero_grad()
    with Pair(push_in_backward=False) as pair:
        pair.backward(0)
        halve(pair.tensors["small"])
        checks.that(len(warnings_of(pair.ours.step)) == (COUNT > 1), "changes through .data are seen")
        pair.ours.zero_grad()
        pair.backward(1)
        pair.backward(1)  # gradients that add up
        with pair.ours.no_sync():
            pair.backward(1)
        checks.that(warnings_of(pair.ours.step) == [], "backward itself is no change")


def torch_clips_unwatched():
    """torch's clipping is noticed by its call, where no hook has seen the gradient and no sample of it differs."""
    import torch.nn.utils.clip_grad as module

    norm, value = imported_norm, imported_value
    code = norm.__code__, value.__code__

    def seen(tensors, call, expected, what, **arguments):
        """How often a step warns whose gradients are set by hand."""
        with equishard.Optimizer(tensors, configuration(), **arguments) as ours:
            for _, tensor in tensors:
                tensor.grad = torch.ones_like(tensor)
            found = warnings_of(lambda: call(tensor for _, tensor in tensors)) + warnings_of(ours.step)
            checks.that(len(found) == expected, f"{what}: {len(found)} warnings, not {expected}: {found}")

    def made(*shape):
        return [("w", torch.nn.Parameter(torch.ones(shape, device=options.device)))]

    several = int(COUNT > 1)
    seen(made(4, 3), lambda tensors: norm(tensors, 1.0), several, "by the norm")
    seen(made(4, 3), lambda tensors: module.clip_grad_norm_(max_norm=1.0, parameters=tensors), several, "by keywords")
    seen(made(4, 3), lambda tensors: value(tensors, 0.5), several, "by value")
    seen(made(4, 3), lambda tensors: norm(tensors, 1.0), 0, "of all", gradient_placement="Replicate")
    rows = {"gradient_placement": "Shard(0)", "weight_placement": "Shard(0)", "shapes": {"w": (2 * COUNT, 3)}}
    seen(made(2, 3), lambda tensors: norm(tensors, 1.0), several, "the norm of rows", **rows)
    seen(made(2, 3), lambda tensors: value(tensors, 0.5), 0, "rows by value are right", **rows)
    others = [torch.nn.Parameter(torch.ones(3))]
    others[0].grad = torch.full((3,), 3.0)
    seen(made(4, 3), lambda _: norm(others, 1.0), 0, "of tensors that are no parameters")
    checks.at_most(abs(others[0].grad.norm().item() - 1), 1e-5, "torch's function works as ever")

    # No backward of a step has pushed: they all were under no_sync.
    with Pair(push_in_backward=True) as pair:
        with pair.ours.no_sync():
            pair.backward(0)
        checks.that(len(warnings_of(lambda: norm(pair.tensors.values(), 1.0))) == several, "under no_sync")
        pair.ours.step()

    # Two elements of a million, which no sample has.
    tensor = torch.nn.Parameter(torch.zeros(1000, 1000, device=options.device))
    ours = equishard.Optimizer([("w", tensor)], configuration(), push_in_backward=True)
    outliers = torch.zeros_like(tensor)
    outliers[501, 7] = outliers[502, 9] = 1e4
    (tensor * outliers).sum().backward()
    fails(lambda: value([tensor], 1.0), "'w'", "push_in_backward=False", "optimizer.clip_grad_norm_(max_norm)")
    checks.that(tensor.grad.max().item() == 1e4, "what is refused has not changed the gradient")
    fails(lambda: norm(tensor, 1.0), "'w'", "optimizer.clip_grad_norm_(max_norm)")
    checks.that(norm.__code__ is not code[0], "torch's function is replaced")
    ours.close()
    checks.that((norm.__code__, value.__code__) == code, "without an optimizer torch's functions are as they were")
    checks.that(abs(norm(tensor, 1.0).item() - 2**0.5 * 1e4) < 1, "and work")


def other_torch():
    """Functions that torch decorates, as later ones do, and such whose code cannot be replaced: by their names."""
    import functools

    import torch.nn.utils.clip_grad as module

    given = module.clip_grad_norm_
    decorated = torch.no_grad()(given)

    def closed(*arguments, **named):
        return given(*arguments, **named)

    plain = functools.partial(given)
    for function, what in (decorated, "decorated"), (closed, "with a closure"), (plain, "no function"):
        module.clip_grad_norm_ = torch.nn.utils.clip_grad_norm_ = function
        try:
            with Pair(push_in_backward=False) as pair:
                pair.backward(0)
                found = warnings_of(lambda: torch.nn.utils.clip_grad_norm_(pair.tensors.values(), max_norm=1.0))
                checks.that(len(found) == (COUNT > 1), f"{what}: {len(found)} warnings")
                norm = torch.linalg.vector_norm(torch.stack([t.grad.norm() for t in pair.tensors.values()]))
                checks.at_most(norm.item(), 1.0, f"{what}: it clips")
                pair.ours.step()
            checks.that(module.clip_grad_norm_ is function, f"{what}: it is there again")
            with equishard.Optimizer([("w", torch.nn.Parameter(torch.ones(2)))], configuration()) as ours:
                checks.that(ours.step_info().step == 0, "another optimizer")
        finally:
            module.clip_grad_norm_ = torch.nn.utils.clip_grad_norm_ = given


def sparse_gradients():
    """A sparse gradient is refused by name; made dense before it is pushed, it is one like others."""
    torch.manual_seed(1)
    for push in False, True:
        module = torch.nn.Embedding(50, 4, sparse=True).to(options.device)
        ours = equishard.Optimizer(module, configuration(), push_in_backward=push)
        indices = torch.tensor([1, 2], device=options.device)

        def backward_and_step():
            module(indices).sum().backward()
            ours.step()

        fails(backward_and_step, "'weight'", "torch.sparse_coo")
        ours.close()
    before = module.weight.detach().clone()
    with equishard.Optimizer(module, configuration(), push_in_backward=False) as ours:
        module.weight.grad = None
        module(indices).sum().backward()
        module.weight.grad = module.weight.grad.to_dense()
        checks.that(warnings_of(ours.step) == [], "to make it dense is no clipping")
        # AdamW's first step is the rate, by the sign of the gradient, and the decay.
        expected = before * (1 - 0.05 * 0.1)
        expected[1:3] -= 0.05
        checks.at_most((module.weight.detach() - expected).abs().max().item(), 1e-5, "a gradient made dense")


def clipping():
    """clip_grad_norm_ is torch's, of the reduced gradient, whenever it is called."""
    for arguments in ({}, {"push_in_backward": True}, {"push_in_backward": False}, {"clips_gradients": True}):
        with Pair(**arguments) as pair:
            for step, limit in enumerate((0.5, None, 1e6, 0.25, float("inf"))):
                pair.backward(step)
                if limit is not None:
                    norm = pair.ours.clip_grad_norm_(limit)
                    expected = torch.nn.utils.clip_grad_norm_(pair.reference.values(), limit)
                    checks.that(isinstance(norm, torch.Tensor) and norm.dim() == 0, "the norm is a tensor")
                    checks.at_most(abs(norm.item() - expected.item()), 1e-5 * expected.item(), f"norm in step {step}")
                pair.ours.step()
                pair.torch.step()
                pair.ours.zero_grad()
                pair.agree(f"clipped at {limit}, {arguments}")
    pair = Pair(push_in_backward=True)
    pair.backward(0)
    pair.ours.clip_grad_norm_(1.0)
    halve(pair.tensors["bias"])
    fails(pair.ours.step, "'bias'")
    pair.close()
    with Pair() as pair:
        pair.backward(0)
        fails(lambda: pair.ours.clip_grad_norm_(1.0, norm_type=1.0), "norm_type must be 2")
        fails(lambda: pair.ours.clip_grad_norm_(-1.0), "max_norm must be positive")
        for wrong in (lambda: pair.ours.clip_grad_norm_("a"), lambda: pair.ours.clip_grad_norm_(1.0, norm_type="b"),
                      lambda: pair.ours.clip_grad_norm_(None)):
            fails(wrong, "must be a number")
        pair.ours.step()


# ----- loss scaling -----

class CpuScaler(torch.cuda.amp.GradScaler):
    """torch's own, forced on where there is no GPU, with the few functions that need one in Python."""

    def __init__(self, scale):
        super().__init__(enabled=False)
        self._enabled, self._scale, self._init_scale = True, torch.full((1,), scale), scale
        self._growth_tracker = torch.zeros(1, dtype=torch.int32)
        self._clear()

    def _clear(self):
        from torch.cuda.amp.grad_scaler import _refresh_per_optimizer_state
        self._per_optimizer_states = defaultdict(_refresh_per_optimizer_state)

    def _unscale_grads_(self, optimizer, inv_scale, found_inf, allow_fp16):
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                if tensor.grad is not None:
                    found_inf += (~torch.isfinite(tensor.grad)).any()
                    tensor.grad.mul_(inv_scale.item())
        return {torch.device("cpu"): found_inf}

    def update(self):
        found = [value.item() for state in self._per_optimizer_states.values()
                 for value in state["found_inf_per_device"].values()]
        assert found, "No inf checks were recorded prior to update."
        if sum(found):
            self._scale *= 0.5
        self._clear()


class Imitation:
    """Not torch's: what it does is not known, only how far it is."""

    def __init__(self, optimizer, scale):
        self._scale = scale
        self._stage = enum.Enum("Stage", "READY UNSCALED STEPPED")
        self._per_optimizer_states = {id(optimizer): {"stage": self._stage.READY}}

    def get_scale(self):
        return self._scale

    def unscale_(self, optimizer):
        for tensor in optimizer.param_groups[0]["params"]:
            tensor.grad.mul_(1 / (2 * self._scale)).mul_(2)
        self._per_optimizer_states[id(optimizer)]["stage"] = self._stage.UNSCALED


def recipe(given, unscales, clips, push, overflow_on=None):
    """scale, backward, unscale_, clip, step, update."""
    scaler = CpuScaler(1024.0)
    with Pair(config=configuration(on_nonfinite="skip"), grad_scaler=scaler if given else None,
              push_in_backward=push) as pair:
        what = f"scaler given {given}, unscale_ {unscales}, clipped {clips}, pushed in backward {push}"
        for step in range(4):
            overflows = step == overflow_on
            scale = scaler.get_scale()
            pair.backward(step, scale=float("inf") if overflows and RANK == 0 else scale)
            if unscales:
                scaler.unscale_(pair.ours)
            if clips:
                norms = []
                found = warnings_of(lambda: norms.append(pair.ours.clip_grad_norm_(0.5)))
                checks.that(found == [], f"{what}: no warning of the optimizer's own clipping")
                norm, expected = norms[0], torch.nn.utils.clip_grad_norm_(pair.reference.values(), 0.5)
                if not overflows:
                    checks.at_most(abs(norm.item() - expected.item()), 1e-5 * expected.item(), f"{what}: norm")
            checks.that(warnings_of(lambda: scaler.step(pair.ours)) == [], f"{what}: no warning")
            scaler.update()
            pair.ours.zero_grad()
            if overflows:
                checks.that(pair.ours.step_info().skipped_last, f"{what}: an overflow is skipped")
                checks.that(scaler.get_scale() == scale / 2, f"{what}: every trainer's scaler halves its scale")
            else:
                pair.torch.step()
            pair.agree(what)
        checks.that(scaler.get_scale() == (1024 if overflow_on is None else 512), f"{what}: the scale at the end")


def loss_scaling():
    for push in False, True:
        for clips in False, True:
            recipe(True, True, clips, push)
        recipe(True, False, True, push, overflow_on=2)
    recipe(True, True, True, True, overflow_on=1)
    recipe(True, True, True, False, overflow_on=1)
    recipe(False, True, True, False, overflow_on=2)  # found by itself when it calls step
    recipe(False, False, False, False)

    scaler = CpuScaler(8.0)
    pair = Pair(grad_scaler=scaler, push_in_backward=True)
    pair.backward(0, scale=8.0)
    scaler.unscale_(pair.ours)
    for action in (lambda: scaler.unscale_(pair.ours), ):
        try:
            action()
            checks.that(False, "unscale_ twice is torch's error")
        except RuntimeError as error:
            checks.that("already been called" in str(error), f"torch's words: {error}")
    fails(lambda: torch.nn.utils.clip_grad_norm_(pair.tensors.values(), 1e-3), "optimizer.clip_grad_norm_(max_norm)")
    pair.close()
    checks.that("unscale_" not in vars(scaler), "a closed optimizer leaves the scaler alone")

    # torch's clipping after unscale_ is seen, whether the optimizer knows of the scaler or not.
    for given in True, False:
        scaler = CpuScaler(8.0)
        with Pair(grad_scaler=scaler if given else None, push_in_backward=False) as pair:
            pair.backward(0, scale=8.0)
            scaler.unscale_(pair.ours)
            found = warnings_of(lambda: torch.nn.utils.clip_grad_norm_(pair.tensors.values(), 1e-3))
            found += warnings_of(lambda: scaler.step(pair.ours))
            checks.that(len(found) == (COUNT > 1), "torch clips after unscale_")

    # What an imitation of torch's scaler divides by itself is no clipping.
    with Pair(push_in_backward=False) as pair:
        scaler = Imitation(pair.ours, 8.0)
        pair.backward(0, scale=8.0)
        scaler.unscale_(pair.ours)
        checks.that(warnings_of(lambda: pair.ours.step(grad_scaler=scaler)) == [], "an imitation's unscale_")
        pair.torch.step()
        pair.agree("unscaled by an imitation")

    # One that the optimizer does not know, after backward has pushed.
    scaler = CpuScaler(8.0)
    pair = Pair(push_in_backward=True)
    pair.backward(0, scale=8.0)
    fails(lambda: scaler.unscale_(pair.ours), "grad_scaler=scaler")
    pair.close()


groups = {
    "writes": [writes, marked, shards, frozen, with_gaps, narrow],
    "refused": [different, only_some, too_late, changed_gradients],
    "gradients": [torch_clips, torch_clips_unwatched, other_torch, sparse_gradients, clipping, *([loss_scaling] if options.device == "cpu" else [])],
}
for case in groups[options.group]:
    failed = checks.failed
    case()
    if checks.failed > failed:
        print(f"in {case.__name__}, trainer {RANK}")
sys.exit(checks.failed > 0)
