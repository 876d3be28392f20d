"""State and weights that overflow float32 from gradients that are finite: `on_nonfinite: error` names step, parameter and
what; `skip` leaves everything as it was. And AdamW goes on after spikes that torch's AdamW survives."""
import pathlib
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

SHAPE = (12, 8)

# name: keys, size of ordinary gradients, size of the one of step 3, what overflows there
CASES = {
    "row_momentum": ("rule: row_norm, momentum: heavy_ball, lr: 1", 1e38, 3e38, "momentum"),
    "matrix_momentum": ("rule: muon, momentum: nesterov, lr: 1", 1e38, 3e38, "momentum"),
    "direction": ("rule: muon, momentum: none, lr: 1, layout: heads_qkv, head_dim: 6", 1, 1e38, None),
    "second_moment": ("rule: adamw, lr: 0.1", 1, 1e20, "second moment"),
    "first_moment": ("rule: adamw, lr: 0.1, betas: [0.9, 0.5]", 1, 3e38, "second moment"),
    "weight": ("rule: polar, alpha: 4, momentum: none, lr: 1", 1e-2, 1e10, "weight"),
    "heads": ("rule: polar, alpha: 4, momentum: none, lr: 1, layout: heads_qkv, head_dim: 6", 1e-2, 1e10, "weight"),
    "first": ("rule: polar, alpha: 4, momentum: polar_first, lr: 1", 1e-2, 1e10, "weight"),
    "both": ("rule: hybrid, alpha: 40, order: polar_then_row, momentum: none, lr: 1", 1e-2, 1e10, "weight"),
    "custom": ("rule: muon, momentum: none, lr: 1, solver: custom, coefficients: [[1.5, -0.5, 0]], steps: 9", 1, 1, None),
    "decay": ("rule: row_norm, momentum: none, lr: 1e20, weight_decay: 1e19", 1, 1, "weight"),
}


def replay(folder, name, keys, gradients, ranks, more, grid=""):
    with h5py.File(folder / "gradients.h5", "w") as file:
        weight = np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)
        for parameter in (name, "other"):
            file[f"parameters/{parameter}/weight"] = weight
        for step, gradient in enumerate(gradients):
            file[f"gradients/{step}/{name}"] = gradient
            file[f"gradients/{step}/other"] = np.ones(SHAPE, np.float32) * (step + 1)
    (folder / "config.yaml").write_text(f"""mode: embedded
{more}
groups:
- {{match: {{name: {name}}}, {keys}{grid}}}
- {{match: {{}}, rule: muon, lr: 0.1}}
""")
    done = job.run((ranks, job.COMMAND, "replay", "--config", folder / "config.yaml", "--gradients",
                    folder / "gradients.h5", "--output", folder / "out.h5"), timeout=60)
    if done.returncode != 0:
        return done, None
    with h5py.File(folder / "out.h5") as file:
        return done, {f"{parameter}/{tensor}": dataset[:] for parameter, group in file["parameters"].items()
                      for tensor, dataset in group.items()}


def gradients_of(size, spike, steps=4):
    random = np.random.default_rng(6)
    made = [np.clip(random.standard_normal(SHAPE), -1, 1) for _ in range(steps)]
    return [(gradient * (spike if step == 2 else size)).astype(np.float32) for step, gradient in enumerate(made)]


def test_cases(checks, folder):
    for name, (keys, size, spike, what) in CASES.items():
        gradients = gradients_of(size, spike)
        for ranks, grid in ((1, ""), (2, ""), (4, ", grid: 2x2, block: 3")):
            if ranks > 1 and not job.EVERYTHING and name not in (
                    {2: ("matrix_momentum", "heads", "second_moment"), 4: ("row_momentum", "matrix_momentum")}[ranks]):
                continue
            done, _ = replay(folder, name, keys, gradients, ranks, "", grid)
            if what is None:
                checks.that(done.returncode == 0, f"{name} on {ranks}: {done.stderr}")
            else:
                words = f"the {what} of '{name}' overflows"
                checks.that(done.returncode == 1 and words in done.stderr and ": step " in done.stderr,
                            f"{name} on {ranks}: status {done.returncode}, not \"{words}\": {done.stderr}")
            done, found = replay(folder, name, keys, gradients, ranks, "on_nonfinite: skip", grid)
            if not checks.that(done.returncode == 0, f"{name} on {ranks}, skip: {done.stderr}"):
                continue
            skipped = done.stderr.count(f"skipped, the {what} of '{name}' overflows")
            if what is None or name == "decay":
                checks.that(skipped == (0 if what is None else 4), f"{name} on {ranks}: {skipped} skipped: {done.stderr}")
                continue
            checks.that(skipped >= 1, f"{name} on {ranks}: nothing is skipped: {done.stderr}")
            checks.that(all(np.isfinite(tensor).all() for tensor in found.values()), f"{name} on {ranks}: not finite")
            if skipped == 1:  # as if the step had not been
                _, without = replay(folder, name, keys, gradients[:2] + gradients[3:], ranks, "on_nonfinite: skip", grid)
                same = [key for key in found if key.startswith(name) and not np.array_equal(found[key], without[key])]
                checks.that(not same, f"{name} on {ranks}: the skipped step has changed {same}")


def test_clipped(checks, folder):
    """A spike that clipping takes away skips nothing, and its trial leaves the bits of a step without one."""
    gradients = gradients_of(1, 1e30)
    done, found = replay(folder, "x", "rule: adamw, lr: 0.1", gradients, 2, "clip_grad_norm: 1\non_nonfinite: skip")
    again, straight = replay(folder, "x", "rule: adamw, lr: 0.1", gradients, 2, "clip_grad_norm: 1")
    if checks.that(done.returncode == again.returncode == 0, done.stderr + again.stderr):
        checks.that("skipped" not in done.stderr, done.stderr)
        checks.that(all(np.array_equal(found[key], straight[key]) for key in found), "skip gives other bits than error")


def test_torch(checks, folder):
    """Spikes that torch's AdamW survives; where its second moment is lost, ours is an error."""
    import torch
    for beta2, spike in ((0.999, 1e20), (0.999, 5e20), (0.95, 1e19), (0.95, 5e19), (0.95, 1e20), (0.999, 1e21)):
        gradients = gradients_of(1, spike, 12)
        gradients[2][1:] = gradients[1][1:]  # in one row
        done, found = replay(folder, "x", f"rule: adamw, lr: 0.1, betas: [0.9, {beta2}]", gradients, 1, "")
        weight = torch.nn.Parameter(torch.tensor(np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)))
        optimizer = torch.optim.AdamW([weight], lr=0.1, betas=(0.9, beta2), eps=1e-8, weight_decay=0)
        for gradient in gradients:
            weight.grad = torch.tensor(gradient)
            optimizer.step()
        survives = bool(torch.isfinite(optimizer.state[weight]["exp_avg_sq"]).all())
        if not survives:
            checks.that(done.returncode == 1 and "second moment of 'x'" in done.stderr,
                        f"{beta2}, {spike:g}: torch's is lost, ours: {done.returncode} {done.stderr}")
        elif checks.that(done.returncode == 0, f"{beta2}, {spike:g}: torch's survives, ours: {done.stderr}"):
            distance = np.abs(found["x/weight"] - weight.detach().numpy()).max()
            checks.that(distance <= 1e-5, f"{beta2}, {spike:g}: {distance:g} from torch's weights")


def main():
    checks = job.Checks()
    for test in (test_cases, test_clipped, test_torch):
        with tempfile.TemporaryDirectory() as folder:
            test(checks, pathlib.Path(folder))
    sys.exit(checks.failed > 0)


if __name__ == "__main__":
    main()
