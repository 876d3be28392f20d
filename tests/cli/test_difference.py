"""`equishard inspect --diff`: what it says of two checkpoints, against numpy on what h5py reads from them."""
import concurrent.futures
import json
import pathlib
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()
CONFIG = """groups:
  - {match: {role: embedding}, rule: row_norm, lr: 0.1}
  - {match: {name: "moved.*"}, rule: %s, lr: 0.1}
  - {match: {}, rule: adamw, lr: %s}
"""
SHAPES = {"model.embed_tokens.weight": (21, 8), "large.weight": (3000, 700), "moved.weight": (6, 5), "norm.weight": (8,),
          "scale": (), "nothing": (0, 4), "odd.weight": (4, 3)}


def command(*arguments, status=0):
    result = job.finish([job.COMMAND, *arguments])
    checks.that(result.returncode == status, f"equishard {' '.join(map(str, arguments))}: status {result.returncode}, not "
                f"{status}\n{result.stdout}{result.stderr}")
    return result


def checkpoint(directory, name, weights, config, seed=1, steps=2):
    """What replay makes of weights and pseudo-random gradients; without steps the weights as they are."""
    random = np.random.default_rng(seed)
    recording, yaml, output = (directory / f"{name}.{ending}" for ending in ("recording", "yaml", "h5"))
    yaml.write_text(config)
    with h5py.File(recording, "w") as file:
        file.create_group("gradients")
        for key, weight in weights.items():
            file[f"parameters/{key}/weight"] = weight
            for t in range(steps):
                file[f"gradients/{t}/{key}"] = random.standard_normal(weight.shape).astype(np.float32)
    command("replay", "--config", yaml, "--gradients", recording, "--output", output)
    return output


def tensors(file):
    with h5py.File(file, "r") as opened:
        return {(name, tensor): values[()] for name, group in opened["parameters"].items()
                for tensor, values in group.items()}


def difference(a, b):
    return json.loads(command("inspect", "--diff", a, b, "--format", "json").stdout)


def check_values(what, told, a, b):
    """Every number that is told is numpy's, in float64; what is not told is equal."""
    told = {(value["parameter"], value["tensor"]): value for value in told}
    for key in a.keys() & b.keys():
        x, y = a[key].ravel(), b[key].ravel()
        if x.shape != y.shape or a[key].shape != b[key].shape:
            checks.that(key not in told, f"{what}: {key} has other shapes")
            continue
        other_bits = x.view(np.uint32) != y.view(np.uint32)
        if not other_bits.any():
            checks.that(key not in told, f"{what}: {key} is equal")
            continue
        if not checks.that(key in told, f"{what}: {key} differs"):
            continue
        value, finite = told[key], np.isfinite(x) & np.isfinite(y)
        x, y = x[finite].astype(np.float64), y[finite].astype(np.float64)
        checks.that(value["elements"] == a[key].size and value["differing"] == other_bits.sum()
                    and value["not_finite"] == (other_bits & ~finite).sum(), f"{what}: counts of {key}: {value}")
        largest, norm = np.abs(x - y).max(initial=0), np.linalg.norm(y)
        relative = np.linalg.norm(x - y) / norm if norm else None if largest else 0
        checks.that(value["max"] == largest, f"{what}: {key}: max {value['max']}, not {largest}")
        if relative is None or value["relative"] is None:
            checks.that(relative == value["relative"], f"{what}: {key}: {value['relative']}, not {relative}")
        else:  # sums of a million float64 in another order
            checks.at_most(abs(value["relative"] - relative), 1e-10 * relative, f"{what}: {key}: relative difference")
    return told


def trained(directory, weights):
    """Another learning rate, another rule, other gradients: momenta, moments and weights of all tiles differ."""
    a = checkpoint(directory, "a", weights, CONFIG % ("muon", 0.01))
    b = checkpoint(directory, "b", {**weights, "odd.weight": np.ones((3, 4), np.float32),
                                    "more.weight": np.ones(3, np.float32)}, CONFIG % ("adamw", 0.02), seed=2, steps=3)
    told, in_a, in_b = difference(a, b), tensors(a), tensors(b)
    check_values("trained", told["values"], in_a, in_b)
    relative = [value["relative"] for value in told["values"]]
    checks.that(relative == sorted(relative, reverse=True) and len(relative) > 5, f"the largest first: {relative}")
    checks.that((told["a"]["step"], told["b"]["step"], told["config_line"]) == (2, 3, 3) and not told["same"],
                f"steps and the configuration: {told['a']} {told['b']} {told['config_line']}")
    checks.that(told["a"]["only"] == [{"parameter": "moved.weight", "tensor": "momentum"}]
                and told["b"]["only"] == [{"parameter": "more.weight", "tensor": None},
                                          {"parameter": "moved.weight", "tensor": "exp_avg"},
                                          {"parameter": "moved.weight", "tensor": "exp_avg_sq"}],
                f"only in one: {told['a']} {told['b']}")
    checks.that(told["reshaped"] == [{"parameter": "odd.weight", "a": [4, 3], "b": [3, 4]}], f"{told['reshaped']}")
    attributes = {(entry["parameter"], entry["attribute"]): (entry["a"], entry["b"]) for entry in told["attributes"]}
    checks.that(attributes[("norm.weight", "lr")] == (0.01, 0.02) and attributes[("scale", "step")] == (2, 3)
                and attributes[("moved.weight", "rule")] == ("muon", "adamw")
                and attributes[("moved.weight", "momentum")] == ("nesterov", None)
                and ("model.embed_tokens.weight", "lr") not in attributes, f"attributes: {attributes}")
    equal = sum(1 for key in in_a.keys() & in_b.keys() if in_a[key].tobytes() == in_b[key].tobytes()
                and in_a[key].shape == in_b[key].shape)
    count = len(in_a.keys() | in_b.keys())
    checks.that((told["tensors"], told["tensors_differing"]) == (count, count - equal),
                f"{told['tensors_differing']} of {told['tensors']}, not {count - equal} of {count}")
    table = command("inspect", "--diff", a, b).stdout
    for text in "step        A: 2 (0 skipped), B: 3 (0 skipped)", "rule  A: muon, B: adamw  in moved.weight\n", \
            "lr  A: 0.01, B: 0.02  in 5 parameters: large.weight, ...", "odd.weight  A: 4x3, B: 3x4", \
            "config      differs from line 3 on:", f"{equal} tensors are equal in both", "  moved.weight/momentum\n":
        checks.that(text in table, f"the table has {text!r}\n{table}")
    checks.that(table.endswith(f"\n{count - equal} of {count} tensors differ\n"), table)
    return a


def special(directory, weights):
    """NaN, infinities, zeros of both signs, and a difference in the last tile alone."""
    bits = np.array([0x7fc00000, 0x7fc00000, 0x7fc00001, 0x3f800000, 0x7f800000, 0x7f800000, 0, 0x80000000, 1, 0x7f7fffff],
                    np.uint32)
    other = np.array([0x7fc00000, 0x3f800000, 0x7fc00000, 0x7fc00000, 0x7f800000, 0xff800000, 0x80000000, 0x80000000, 2,
                      0x7f7ffffe], np.uint32)
    large = weights["large.weight"].copy()
    large[2999, 699] = np.nextafter(large[2999, 699], np.float32(9))
    parts = {"a": {**weights, "hard": bits.view(np.float32), "zero": np.zeros(3, np.float32),
                   "signs": np.zeros(2, np.float32)},
             "b": {**weights, "hard": other.view(np.float32), "zero": np.zeros(3, np.float32),
                   "signs": -np.zeros(2, np.float32), "large.weight": large}}
    parts["a"]["zero"] = np.array([0, 1e-30, 0], np.float32)
    files = {name: checkpoint(directory, f"special-{name}", part, CONFIG % ("muon", 0.01), steps=0)
             for name, part in parts.items()}
    told = difference(files["a"], files["b"])
    values = check_values("special", told["values"], tensors(files["a"]), tensors(files["b"]))
    checks.that(set(values) == {(name, "weight") for name in ("hard", "zero", "signs", "large.weight")}, f"{list(values)}")
    # differing: NaN of another payload, NaN on one side (twice), infinities of other signs; 0 and -0; two finite ones
    checks.that((values["hard", "weight"]["differing"], values["hard", "weight"]["not_finite"]) == (7, 4), f"{values}")
    checks.that(told["values"][0]["parameter"] == "hard" and told["tensors_differing"] == 4 and told["attributes"] == []
                and told["config_line"] is None, f"special: {told}")
    checks.that(values["large.weight", "weight"]["differing"] == 1, f"one element: {values}")


def sameness(directory, weights, a):
    """A file with itself, with the directory that it is in, with a copy, with another step; damage; usage."""
    again = checkpoint(directory, "again", weights, CONFIG % ("muon", 0.01))
    run = directory / "run"
    run.mkdir()
    (run / "step-00000002.h5").write_bytes(a.read_bytes())
    for pair in (a, a), (a, again), (run, a):
        text = command("inspect", "--diff", *pair).stdout
        checks.that(text.endswith("\nthe same\n"), f"{pair}: {text}")
    checks.that(difference(a, again)["same"] is True, "the same, in JSON")
    result = job.run((2, job.COMMAND, "inspect", "--diff", a, again))
    checks.that(result.returncode == 0 and result.stdout.count("the same\n") == 1, f"under mpirun: {result}")

    with h5py.File(a, "r") as file:
        dataset = file["parameters/large.weight/exp_avg"]
        place = dataset.id.get_offset() + 4 * 700 * 2000
    data = bytearray(a.read_bytes())
    data[place] ^= 1
    damaged = directory / "damaged.h5"
    damaged.write_bytes(data)
    rows = (1 << 20) // 700  # of a tile
    first, end = 2000 // rows * rows, min(2000 // rows * rows + rows, 3000)
    for pair in (damaged, a), (a, damaged):
        result = command("inspect", "--diff", *pair, status=4)
        checks.that(f"{damaged}: damaged: large.weight/exp_avg, rows {first} to {end - 1}" in result.stderr
                    and not result.stdout, f"{pair}: {result}")
    command("inspect", "--diff", a, directory / "none.h5", status=3)
    command("inspect", "--diff", directory / "a.yaml", a, status=4)
    for arguments in ["--diff", a], ["--diff"], ["--diff", a, a, a], [a, a]:
        checks.that("equishard" in command("inspect", *arguments, status=2).stderr, f"usage: {arguments}")


with tempfile.TemporaryDirectory() as name, concurrent.futures.ThreadPoolExecutor(2) as pool:
    scratch = pathlib.Path(name)
    generator = np.random.default_rng(7)
    initial = {key: np.asarray(generator.standard_normal(shape), np.float32) for key, shape in SHAPES.items()}
    others = pool.submit(special, scratch, initial)
    sameness(scratch, initial, trained(scratch, initial))
    others.result()
sys.exit(checks.failed > 0)
