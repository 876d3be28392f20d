"""Golden trajectories through `equishard replay`.

trajectories.h5 holds optimizer trajectories computed in float64 (groups <rule>/<case>: w0, g[t], w[t], and
the options as JSON). All cases go into one recording and one configuration, a group per case, so that one replay
per arrangement of ranks, grid and block checks them all. A case passes when

    max |w - w_ref| <= 2e-6 + 2e-5 max |w_ref - w0|

and the momentum after the last step is as near to its own reference; a plain numpy program in float32 stays under 0.4
of it. The error is printed as a fraction of it.
"""
import json
import pathlib
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

here = pathlib.Path(__file__).resolve().parent

LAYOUTS = {"olmoe_gate_up_pair": "gate_up_concat_pair", "gpt_oss_gate_up_pair": "gate_up_interleaved_pair",
           "qkv": "heads_qkv", "o": "heads_o", "gate_up_split": "gate_up_interleaved_split",
           "olmoe_gate_up_split": "gate_up_concat_split", "down": "row"}
SAME = ["lr", "weight_decay", "beta", "betas", "alpha", "eps", "row_mode", "order", "head_dim"]
SCALES = {"sqrt(m/n)": "sqrt_rows_over_cols"}


def group_of(rule, case, options):
    """A configuration group for a case: the options in the configuration's words."""
    group = {"match": {"name": f"{rule}.{case}"}, "rule": rule}
    for key in SAME:
        if key in options:
            group[key] = options[key]
    layout = options.get("orientation", options.get("layout"))
    if layout is not None:
        group["layout"] = LAYOUTS.get(layout, layout)
    if "center_rows" in options:
        group["center"] = options["center_rows"]
    if "left" in options:
        group["side"] = "left"
    if "backend" in options:
        group["solver"] = options["backend"]
    if case.endswith("_gram"):
        group["solver"] = "gram_polar_express"
    if "solver" in options:
        group["solver"] = options["solver"]
    if "num_steps" in options:
        group["steps"] = options["num_steps"]
    if "scale" in options:
        group["scale"] = SCALES[options["scale"]]
    if rule == "muon":
        group["momentum"] = "nesterov" if options["nesterov"] else "heavy_ball"
        group["beta"] = options["momentum"]
    elif "momentum" in options:
        group["momentum"] = options["momentum"]
    if rule in ("adamw", "muon"):
        group.pop("alpha", None)
    return group


def write_recording(path, golden):
    with h5py.File(path, "w") as recording:
        for rule, case in cases(golden):
            data = golden[rule][case]
            recording[f"parameters/{rule}.{case}/weight"] = data["w0"][:].astype(np.float32)
            for t, gradient in enumerate(data["g"]):
                recording[f"gradients/{t}/{rule}.{case}"] = gradient.astype(np.float32)


def cases(golden):
    return [(rule, case) for rule in golden for case in golden[rule]]


def write_config(path, golden, grid, block):
    groups = []
    for rule, case in cases(golden):
        group = group_of(rule, case, json.loads(golden[rule][case].attrs["options"]))
        if grid:
            group["grid"] = grid
        if block:
            group["block"] = block
        groups.append(group)
    path.write_text(json.dumps({"mode": "embedded", "groups": groups}, indent=1))  # JSON is YAML


def compare(output, golden):
    """Largest error of every rule, as a fraction of what is allowed; the cases above 1."""
    worst, failed = {}, []
    with h5py.File(output) as checkpoint:
        for rule, case in cases(golden):
            data = golden[rule][case]
            weight = checkpoint[f"parameters/{rule}.{case}/weight"][:]
            reference = data["w"][-1]
            allowed = 2e-6 + 2e-5 * np.abs(reference - data["w0"][:]).max()
            error = np.abs(weight - reference).max() / allowed
            if json.loads(data.attrs["options"]).get("momentum") != "none" and "m" in data:
                momentum = checkpoint[f"parameters/{rule}.{case}/momentum"][:]
                allowed = 2e-6 + 2e-5 * np.abs(data["m"][:]).max()
                error = max(error, np.abs(momentum - data["m"][:]).max() / allowed)
            worst[rule] = max(worst.get(rule, 0), error)
            if not error <= 1:
                failed.append(f"{rule}.{case}: {error:.2f} of what is allowed")
    return worst, failed


def arrangements():
    """(ranks, grid, block) to replay on: None is the plan's."""
    if not job.EVERYTHING:
        return [(1, None, None), (2, None, None), (3, "1x3", 3), (4, "2x2", 8), (6, "3x2", 1), (6, "6x1", 64)]
    grids = {1: ["1x1"], 2: ["1x2", "2x1"], 3: ["1x3", "3x1"], 4: ["1x4", "4x1", "2x2"],
             6: ["1x6", "6x1", "2x3", "3x2"]}
    return [(ranks, grid, block) for ranks in grids for grid in [None] + grids[ranks]
            for block in ([None] if grid is None else [1, 3, 8, 64])]


def main():
    checks = job.Checks()
    with tempfile.TemporaryDirectory() as folder, h5py.File(here / "trajectories.h5") as golden:
        folder = pathlib.Path(folder)
        write_recording(folder / "recording.h5", golden)
        for ranks, grid, block in arrangements():
            label = f"{ranks} ranks, grid {grid or 'planned'}, block {block or 'planned'}"
            write_config(folder / "config.yaml", golden, grid, block)
            done = job.run((ranks, job.COMMAND, "replay", "--config", folder / "config.yaml", "--gradients",
                            folder / "recording.h5", "--output", folder / "output.h5"), timeout=120)
            if not checks.that(done.returncode == 0, f"{label}: status {done.returncode}\n{done.stderr}"):
                continue
            worst, failed = compare(folder / "output.h5", golden)
            print(f"{label}: " + ", ".join(f"{rule} {error:.2f}" for rule, error in worst.items()))
            for line in failed:
                checks.that(False, f"{label}: {line}")
    sys.exit(checks.failed > 0)


if __name__ == "__main__":
    main()
