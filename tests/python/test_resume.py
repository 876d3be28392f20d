"""What a restart gives back besides weights and their state: buffers, every trainer's own data, registered objects; frozen
layers; resume="auto"; and configurations as dict, text and with overrides."""
import pathlib
import random
import sys
import tempfile
import unittest.mock
import warnings

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

GROUPS = [{"match": {"ndim": 2}, "rule": "muon", "lr": 0.02}, {"match": {}, "rule": "adamw", "lr": 0.01}]
checks = job.Checks()


class Net(torch.nn.Module):
    def __init__(self, table=4, frozen=False):
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.last = torch.nn.Linear(4, 2)
        self.register_buffer("table", torch.arange(float(table)), persistent=False)
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))
        self.scale = torch.nn.Parameter(torch.tensor([1, 2], dtype=torch.int8), requires_grad=False)
        if frozen:
            self.first.requires_grad_(False)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x)))) * self.table[1]


def make(seed, **more):
    torch.manual_seed(seed)
    return Net(**more)


def step(optimizer, model, number):
    torch.manual_seed(1000 * number + optimizer.trainers.rank)
    model.counts[0] += 1
    model(torch.randn(6, 3)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def values(model):
    return {name: tensor.detach().clone() for name, tensor in [*model.named_parameters(), *model.named_buffers()]}


def same(one, other, what, except_for=()):
    for name in one:
        checks.that(torch.equal(one[name], other[name]) == (name not in except_for), f"{what}: {name}")


def configuration(mode, directory):
    return {"mode": mode, "checkpoint": {"directory": directory, "every": 2, "keep": 0}, "groups": GROUPS}


def grad_scaler(scale):
    """torch's, which without a GPU believes that there is one."""
    with unittest.mock.patch("torch.cuda.is_available", lambda: True):
        return torch.cuda.amp.GradScaler(init_scale=scale)


class Counter:
    """What a program may register: a state with keys, values and kinds of all sorts, and a function."""

    def __init__(self):
        self.state = {"function": lambda: 1, (1, 2.5): np.float32(0.1), "array": np.arange(3), "set": {1}, "none": None,
                      "tensor": torch.tensor([[0.5]], dtype=torch.bfloat16), "text": "zwölf\0", "bytes": b"\0\1",
                      "deep": [({"x": float("inf")}, [1j, -0.0])], 7: True}

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def begin(equishard, mode, directory):
    """A run that stops after two steps. Its trainers' buffers and random states differ."""
    model = make(1)
    optimizer = equishard.Optimizer(model, configuration(mode, directory), resume="auto")
    rank = optimizer.trainers.rank
    checks.that(optimizer.resumed is False and optimizer.trainer_data("step") is None, "auto: nothing there, so it begins")
    counter = Counter()
    counter.state["array"] += 1
    scaler = grad_scaler(128.0)
    scaler._growth_tracker = torch.tensor(9, dtype=torch.int32)
    scaler._scale = torch.tensor(128.0)
    optimizer.register_for_checkpointing(counter=counter, scaler=scaler)
    for number in range(2):
        step(optimizer, model, number)
    for own, word in (({"a": 1}, {"b": 1}), "other keys"), ((None, {"b": 1}), "other keys"), ((7, {}), "dict is needed"):
        try:
            optimizer.checkpoint(per_trainer=own[rank])
        except ValueError as error:
            checks.that((word in str(error) or (rank == 1 and error.printed)) and error.status == 2, f"{own}: {error}")
        else:
            checks.that(False, f"trainers with {own} in checkpoint: no error")
    random.seed(rank)
    torch.manual_seed(50 + rank)
    model.scale.data[0] = 5
    optimizer.checkpoint(step=2, text="zwölf", per_trainer={
        "torch": torch.get_rng_state(), "python": random.getstate(), "position": 10 + rank, "bytes": b"\0" * rank})
    torch.save((values(model), random.random(), torch.rand(1)), directory / f"{rank}.pt")
    optimizer.close()


def go_on(equishard, mode, directory):
    """The same on the same number of trainers, from other initial weights and buffers."""
    model = make(2)
    optimizer = equishard.Optimizer(model, configuration(mode, directory), resume="auto")
    rank = optimizer.trainers.rank
    first, mine = torch.load(directory / "0.pt"), torch.load(directory / f"{rank}.pt")
    checks.that(optimizer.resumed is True, "auto: it goes on")
    same(first[0], values(model), "restored, of the first trainer")
    checks.that(rank == 0 or not torch.equal(mine[0]["norm.running_mean"], first[0]["norm.running_mean"]),
                "the test's trainers have different running means")
    counter = Counter()
    scaler = grad_scaler(2.0)
    optimizer.register_for_checkpointing(counter=counter, scaler=scaler)
    checks.that(scaler.get_scale() == 128 and scaler._init_growth_tracker == 9, "the scaler goes on")
    checks.that(counter.state["function"]() == 1 and counter.state["array"].tolist() == [1, 2, 3], "the object is restored")
    expected = Counter().state
    for key in expected.keys() - {"function", "array"}:
        checks.that(type(counter.state[key]) is type(expected[key]) and counter.state[key] == expected[key],
                    f"{key!r}: {counter.state[key]!r}")
    checks.that(optimizer.trainer_data("step") == b"2" and optimizer.trainer_data("text") == "zwölf".encode(), "plain data")
    checks.that(optimizer.trainer_data("position") == str(10 + rank).encode(), "this trainer's position")
    checks.that(optimizer.trainer_data("bytes") == b"\0" * rank, "this trainer's bytes")
    random.setstate(optimizer.trainer_data("python"))
    torch.set_rng_state(optimizer.trainer_data("torch"))
    checks.that((random.random(), torch.rand(1)) == mine[1:], "this trainer's random states")
    optimizer.close()


def on_other_trainers(equishard, mode, directory):
    """To another number of trainers all data are given as a list; buffers may be left out."""
    model = make(2)
    before = values(model)
    with equishard.Optimizer(model, configuration(mode, directory), resume=True, buffers=False) as optimizer:
        checks.that(optimizer.trainer_data("position") == [b"10", b"11"], "all trainers' positions")
        checks.that(len(optimizer.trainer_data("torch")) == 2, "all trainers' random states")
        buffers = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked", "table", "counts", "scale"}
        same(before, values(model), "buffers=False", {"first.weight", "first.bias", "last.weight", "last.bias"} |
             {"norm.weight", "norm.bias"} - buffers)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = make(2, table=6)
        equishard.Optimizer(model, configuration(mode, directory), resume=True).close()
        checks.that(torch.equal(model.table, torch.arange(6.0)), "a table of another size that is not persistent stays")
        told = [str(warning.message) for warning in said if "'table'" in str(warning.message)]
        checks.that(len(told) == (equishard.trainers().rank == 0), f"and the first trainer says so: {told}")
    model = make(2)
    model.counts = torch.zeros(3, dtype=torch.int64)
    try:
        equishard.Optimizer(model, configuration(mode, directory), resume=True)
    except ValueError as error:
        checks.that("'counts'" in str(error) and "buffers=False" in str(error) and error.status == 2, f"{error}")
    else:
        checks.that(False, "a persistent buffer of another shape is an error")


class Tied(torch.nn.Module):
    """One weight under two names, in either order, and a buffer."""

    def __init__(self, embedding_first, wide=0.0):
        super().__init__()
        for name in ("embed", "head") if embedding_first else ("head", "embed"):
            setattr(self, name, torch.nn.Embedding(5, 3) if name == "embed" else torch.nn.Linear(3, 5))
        self.head.weight = self.embed.weight
        self.register_buffer("mean", torch.full((2,), wide))

    def forward(self, x):
        return self.head(self.embed(x))


class Wrapper(torch.nn.Module):
    """As DistributedDataParallel, AveragedModel and others hold a model."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


def under_other_names(equishard, mode, directory):
    """A tied tensor whose names come in another order, in a model that was not wrapped, or was."""
    directory = directory / "tied"
    weights = []
    for model in (Tied(True, 7.0), Wrapper(Tied(False)), Tied(False), Wrapper(Tied(True))):
        optimizer = equishard.Optimizer(model, configuration(mode, directory), resume="auto")
        inner = getattr(model, "module", model)
        if weights:
            checks.that(all(map(torch.equal, weights, (inner.embed.weight, inner.head.bias, inner.mean))),
                        f"{type(model).__name__}: restored under another name")
        model(torch.arange(5)).square().mean().backward()
        optimizer.step()
        optimizer.checkpoint()
        weights = [tensor.detach().clone() for tensor in (inner.embed.weight, inner.head.bias, inner.mean)]
        optimizer.close()


CASES = {"under_other_names": under_other_names, "begin": begin, "go_on": go_on, "on_other_trainers": on_other_trainers}


def trainer(cases, mode, directory):
    import equishard

    torch.set_num_threads(1)
    for case in cases.split(","):
        CASES[case](equishard, mode, pathlib.Path(directory))
    sys.exit(checks.failed > 0)


def run(case, mode, trainers, owners, directory):
    programs = [(trainers, job.PYTHON, __file__, case, mode, directory)]
    result = job.run(*programs, *([job.serve(owners)] if owners else []), timeout=60)
    checks.that(result.returncode == 0 and not result.stdout,
                f"{case}, {mode}: status {result.returncode}\n{result.stdout}{result.stderr}")


if sys.argv[1:]:
    trainer(*sys.argv[1:])
with tempfile.TemporaryDirectory() as temporary:
    run("begin", "service", 2, 1, temporary)
    run("go_on", "embedded", 2, 0, temporary)
    run("under_other_names,on_other_trainers", "embedded", 1, 0, temporary)
sys.exit(checks.failed > 0)
