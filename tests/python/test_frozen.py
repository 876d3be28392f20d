"""Layers that are frozen and trained again between restarts: they keep the file's weight, and later checkpoints have it,
with the state that it had. On 2 trainers whose own initial weights differ."""
import pathlib
import sys
import tempfile

import h5py
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()
GROUPS = [{"match": {"ndim": 2}, "rule": "muon", "lr": 0.02}, {"match": {}, "rule": "adamw", "lr": 0.01}]


def make(seed, frozen, dtype=torch.float32):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)).to(dtype)
    for layer in frozen:
        model[layer].requires_grad_(False)
    return model


def train(optimizer, model, steps=2):
    for _ in range(steps):
        torch.manual_seed(10 * optimizer.step_info().step + optimizer.trainers.rank)
        model(torch.randn(6, 3, dtype=model[0].weight.dtype)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def copy(model):
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def contents(directory, step):
    """{parameter: {tensor: values}} of a checkpoint."""
    with h5py.File(directory / f"step-{step:08}.h5") as file:
        return {name: {key: torch.from_numpy(data[()]) for key, data in group.items()}
                for name, group in file["parameters"].items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def run(equishard, mode, directory, dtype):
    rank = equishard.trainers().rank
    config = {"mode": mode, "groups": GROUPS, "checkpoint": {"directory": directory, "keep": 0, "async": False}}

    # From the beginning: the first trainer's weights, of frozen layers too.
    model = make(rank, [0], dtype)
    optimizer = equishard.Optimizer(model, config)
    begin = copy(model)
    checks.that(equal(begin, copy(make(0, [0], dtype))), "the first trainer's weights are everybody's")
    train(optimizer, model)
    changed = [name for name, tensor in copy(model).items() if not torch.equal(tensor, begin[name])]
    checks.that(changed == ["1.weight", "1.bias", "2.weight", "2.bias"], f"changed: {changed}")
    checks.that(len(optimizer.state) == 4 and sum(len(group["params"]) for group in optimizer.param_groups) == 4,
                "frozen ones are in no group")
    optimizer.checkpoint()
    after = copy(model)
    optimizer.close()

    # Another layer is frozen instead: what was frozen is trained now, from the file's weight and zero state.
    model = make(100 + rank, [1], dtype)
    optimizer = equishard.Optimizer(model, config, resume=True)
    checks.that(equal(copy(model), after), "all weights are the file's, frozen or not")
    steps = {name: float(optimizer.state[tensor]["step"]) for name, tensor in model.named_parameters()
             if tensor.requires_grad}
    checks.that(steps == {"0.weight": 0, "0.bias": 0, "2.weight": 2, "2.bias": 2}, f"steps that each has taken: {steps}")
    train(optimizer, model)
    steps = [float(optimizer.state[tensor]["step"]) for tensor in (model[0].weight, model[2].bias)]
    checks.that(steps == [2, 4], f"they count on: {steps}")
    optimizer.checkpoint()
    middle = copy(model)
    optimizer.close()
    first, second = contents(directory, 2), contents(directory, 4)
    for name in ("1.weight", "1.bias"):
        checks.that(torch.equal(middle[name], after[name]), f"{name} was frozen")
        checks.that(len(first[name]) > 1 and equal(first[name], second[name]), f"{name}: weight and state stay in the file")
    checks.that(not torch.equal(middle["0.weight"], after["0.weight"]), "what was frozen is trained again")

    # Trained again, it is as if the checkpoint in between had not been: the state of step 2 goes on.
    model = make(200 + rank, [], dtype)
    optimizer = equishard.Optimizer(model, config, resume=True)
    checks.that(equal(copy(model), middle), "weights of a frozen layer that is trained again")
    train(optimizer, model, 1)
    optimizer.checkpoint()
    optimizer.close()
    old, new = first["1.weight"]["momentum"], contents(directory, 5)["1.weight"]["momentum"]
    # M <- 0.95 M + 0.05 G: momentum that had begun anew would be 0.05 G.
    checks.that((new - 0.95 * old).norm() < (new - 0.05 * old).norm(), "momentum goes on")


def main(mode, directory):
    import equishard

    torch.set_num_threads(1)
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        run(equishard, mode, pathlib.Path(directory) / mode / name, dtype)
    sys.exit(checks.failed > 0)


if sys.argv[1:]:
    main(*sys.argv[1:])
with tempfile.TemporaryDirectory() as temporary:
    for mode, owners in (("service", 1), ("embedded", 0)):
        result = job.run((2, job.PYTHON, __file__, mode, temporary), *([job.serve(owners)] if owners else []), timeout=60)
        checks.that(result.returncode == 0 and not result.stdout,
                    f"{mode}: status {result.returncode}\n{result.stdout}{result.stderr}")
sys.exit(checks.failed > 0)
