"""The matrices inside of a tensor, through `equishard replay`: whatever a tensor is stored as, its matrices get the update
that they get as tensors of their own. Muon's update of a matrix depends on nothing but this matrix, so the two agree to
rounding, on any ranks, grid and block."""
import json
import pathlib
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()
STEPS = 3


def rows(tensor, *sizes):
    return np.split(tensor, np.cumsum(sizes)[:-1], axis=-2)


# name -> shape, keys of the group, the matrices as the rule sees them
CASES = {
    "convolution": ((8, 3, 2, 5), {"layout": "flatten"}, lambda t: [t.reshape(8, 30)]),
    "line": ((12, 5, 3), {"layout": "flatten"}, lambda t: [t.reshape(12, 15)]),
    "pixel": ((6, 9, 1, 1), {"layout": "flatten"}, lambda t: [t.reshape(6, 9)]),
    "groups": ((16, 6), {"split": {"repeat": 2, "pieces": [4, 2, 2]}},
               lambda t: [piece for group in rows(t, 8, 8) for piece in rows(group, 4, 2, 2)]),
    "stack": ((3, 8, 6), {"layout": "heads_qkv", "head_dim": 4}, lambda t: [half for one in t for half in rows(one, 4, 4)]),
    "turned": ((6, 12), {"layout": "heads_qkv_col", "head_dim": 4}, lambda t: rows(t.T, 4, 4, 4)),
    "turned_o": ((12, 6), {"layout": "heads_o_col", "head_dim": 4}, lambda t: [t[h:h + 4].T for h in (0, 4, 8)]),
    "layers": ((2, 3, 4, 5), {"layout": "row"}, lambda t: list(t.reshape(6, 4, 5))),
}


def group(name, keys, grid, block):
    return dict({"match": {"name": name}, "rule": "muon", "lr": 0.1, "weight_decay": 0.01}, **keys,
                **({"grid": grid} if grid else {}), **({"block": block} if block else {}))


def write(directory, random):
    """A recording of every tensor, and of its matrices as parameters of their own."""
    names = {}
    with h5py.File(directory / "recording.h5", "w") as file:
        for name, (shape, _, matrices) in CASES.items():
            for t in range(-1, STEPS):
                tensor = random.standard_normal(shape).astype(np.float32)
                names[name] = [f"{name}.{i}" for i in range(len(matrices(tensor)))]
                for key, value in [(name, tensor), *zip(names[name], matrices(tensor))]:
                    file[f"parameters/{key}/weight" if t < 0 else f"gradients/{t}/{key}"] = value
    return names


def replay(directory, names, ranks, grid, block):
    groups = [group(name, keys, grid, block) for name, (_, keys, _) in CASES.items()] + [group("*", {"layout": "row"}, None, None)]
    (directory / "config.yaml").write_text(json.dumps({"groups": groups}))
    result = job.run((ranks, job.COMMAND, "replay", "--config", directory / "config.yaml", "--gradients", directory / "recording.h5",
                      "--output", directory / "output.h5"))
    where = f"{ranks} ranks, grid {grid}, block {block}"
    if not checks.that(result.returncode == 0, f"{where}: {result}"):
        return
    with h5py.File(directory / "output.h5") as file, h5py.File(directory / "recording.h5") as recording:
        for name, (shape, _, matrices) in CASES.items():
            for what in "weight", "momentum":
                found = file[f"parameters/{name}/{what}"][:]
                moved = np.abs(found - recording[f"parameters/{name}/weight"][:]).max()
                worst = max(np.abs(mine - file[f"parameters/{alone}/{what}"][:]).max()
                            for mine, alone in zip(matrices(found), names[name]))
                checks.that(found.shape == shape and moved > 0.1, f"{where}: {name} has moved by {moved}")
                checks.at_most(worst, 1e-6 + 1e-5 * moved, f"{where}: {what} of {name} against its matrices alone")


with tempfile.TemporaryDirectory() as folder:
    scratch = pathlib.Path(folder)
    tensors = write(scratch, np.random.default_rng(5))
    for arrangement in (1, None, None), (3, None, None), (2, "2x1", 3), (4, "2x2", 2):
        replay(scratch, tensors, *arrangement)
sys.exit(checks.failed > 0)
