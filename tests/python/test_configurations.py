"""A configuration as a file, as YAML text, as a dict, and with overrides: the same training whichever way it is given."""
import json
import os
import pathlib
import sys
import tempfile

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()


def write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def train(equishard, config, **more):
    """(weights after two steps, whether a checkpoint was due, rates). A large eps lets the gradient's size count."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    with equishard.Optimizer(model, config, **more) as optimizer:
        due = []
        for _ in range(2):
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            due.append(optimizer.checkpoint_due())
        rates = {group["rule"]: group["lr"] for group in optimizer.param_groups}
        if due[1]:
            optimizer.checkpoint()
        return torch.cat([p.detach().reshape(-1) for p in model.parameters()]), due, rates


def same(one, other, what):
    checks.that(torch.equal(one[0], other[0]) and one[1:] == other[1:], f"{what}: {one}, not {other}")


def main(directory):
    import equishard

    os.chdir(directory)
    groups = [{"match": {"ndim": 1}, "rule": "adamw", "lr": 0.05, "eps": 1.0, "betas": (0.8, 0.9)},
              {"match": {}, "rule": "adamw", "lr": 0.1, "eps": 1.0}]
    whole = {"mode": "embedded", "clip_grad_norm": 0.25, "groups": groups,
             "checkpoint": {"directory": directory / "whole", "every": 2, "async": True, "minutes": 1e3}}
    expected = train(equishard, whole)
    checks.that(expected[1] == [False, True], f"a checkpoint is due every second step: {expected[1]}")

    plain = {**whole, "checkpoint": {**whole["checkpoint"], "directory": str(directory / "whole")},
             "groups": [{**groups[0], "betas": [0.8, 0.9]}, groups[1]]}
    text = json.dumps(plain, indent=1)
    same(train(equishard, text), expected, "text")
    same(train(equishard, write(pathlib.Path("whole.yaml"), plain)), expected, "pathlib.Path")
    same(train(equishard, "whole.yaml"), expected, "path")
    same(train(equishard, b"whole.yaml"), expected, "path in bytes")
    same(train(equishard, "{include: whole.yaml}"), expected, "text that includes")

    # What the overrides have wins; of `checkpoint` key by key; their groups are asked first.
    other = {**plain, "clip_grad_norm": 3.0, "mode": "service", "groups": plain["groups"][1:],
             "checkpoint": {**plain["checkpoint"], "every": 1, "directory": "elsewhere"}}
    overrides = {"clip_grad_norm": 0.25, "mode": "embedded", "groups": groups[:1],
                 "checkpoint": {"directory": directory / "whole", "every": 2}}
    folder = pathlib.Path("folder")
    folder.mkdir()
    write(folder / "part.yaml", {"groups": other["groups"]})
    write(folder / "other.yaml", {**{key: value for key, value in other.items() if key != "groups"}, "include": "part.yaml"})
    for what, config in (("file", write(pathlib.Path("other.yaml"), other)), ("dict", other),
                         ("file in a folder, which includes another", "folder/other.yaml")):
        same(train(equishard, config, overrides=overrides), expected, f"overrides of a {what}")
    unclipped = train(equishard, whole, overrides={"clip_grad_norm": None})
    checks.that(not torch.equal(unclipped[0], expected[0]), "null takes a limit away")
    same(train(equishard, "whole.yaml", overrides={"clip_grad_norm": None}), unclipped, "also one of a file")

    for what, status, words, config, more in (
            ("text", 2, ["configuration:2", "lr"], "mode: embedded\ngroups: [{match: {}, rule: adamw, lr: fast}]", {}),
            ("unknown override", 2, ["clip", "overrides"], "whole.yaml", {"overrides": {"clip": 1}}),
            ("overrides of a text", 2, ["into the text"], text, {"overrides": {"mode": "embedded"}}),
            ("a function", 2, ["function"], {"mode": train}, {}),
            ("no file", 3, ["missing.yaml"], "missing.yaml", {}),
            ("overrides of no file", 3, ["missing.yaml"], "missing.yaml", {"overrides": {"mode": "embedded"}})):
        try:
            train(equishard, config, **more)
        except equishard.EquishardError as error:
            checks.that(error.status == status, f"{what}: status {error.status}")
            for word in words:
                checks.that(word in str(error), f"{what}: {word!r} is not in: {error}")
        else:
            checks.that(False, f"{what}: no error")
    sys.exit(checks.failed > 0)


if sys.argv[1:]:
    main(pathlib.Path(sys.argv[1]))
with tempfile.TemporaryDirectory() as temporary:
    result = job.finish([job.PYTHON, __file__, temporary], timeout=60)
checks.that(result.returncode == 0 and not result.stdout, f"status {result.returncode}\n{result.stdout}{result.stderr}")
sys.exit(checks.failed > 0)
