"""What the size of a direction does to its update: nothing to undamped factors, nothing with `eps_mode: relative`; and
where ε decides, a warning and `damping_share` in the metrics say so."""
import json
import pathlib
import sys
import tempfile

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

FACTORS = [10.0 ** e for e in (-30, -20, -10, -4, 0, 5, 10, 20, 30)]
ONE = FACTORS.index(1.0)
SHAPE = (24, 40)

# keys of a group, and the power of c that its update has: ν^α is as large as D
FREE = {
    "muon": ("rule: muon", 0), "jordan": ("rule: muon, solver: jordan, form: gram_restart", 0),
    "square": ("rule: muon, form: direct", 0), "exact": ("rule: polar, alpha: 0", 0),
    "custom": ("rule: muon, solver: custom, coefficients: [[3.4445, -4.775, 2.0315], [2, -1.5, 0.5]]", 0),
    "right": ("rule: right_spectral, alpha: 0, eps: 1e-2, eps_mode: relative", 0),
    "left": ("rule: left_spectral, alpha: 1, eps: 1e-2, eps_mode: relative", 1),
    "exact_damped": ("rule: right_spectral, solver: exact, alpha: 0, eps: 1e-2, eps_mode: relative", 0),
    "nu": ("rule: polar, alpha: 1, eps: 3, eps_mode: relative", 1),
    "rows": ("rule: row_norm, eps: 0.5, eps_mode: relative", 0),
    "rows_inverse": ("rule: row_norm, row_mode: inverse, eps: 1, eps_mode: relative, center: true", 0),
    "row_then_polar": ("rule: hybrid, alpha: 1, eps: 1e-2, eps_mode: relative, center: true", 0),
    "polar_then_row": ("rule: hybrid, order: polar_then_row, eps: 1e-2, eps_mode: relative", 0),
    "unit_rows": ("rule: row_norm, eps: 0.5, eps_mode: relative, momentum: nesterov, layout: col", 0),
}


def replay(folder, config, weights, gradients, ranks=1):
    """A replay's result and, if it succeeded, the weights."""
    with h5py.File(folder / "gradients.h5", "w") as file:
        for name, weight in weights.items():
            file[f"parameters/{name}/weight"] = weight.astype(np.float32)
        for step, tensors in enumerate(gradients):
            for name, gradient in tensors.items():
                file[f"gradients/{step}/{name}"] = gradient.astype(np.float32)
    (folder / "config.yaml").write_text(config)
    done = job.run((ranks, job.COMMAND, "replay", "--config", folder / "config.yaml", "--gradients",
                    folder / "gradients.h5", "--output", folder / "out.h5"), timeout=100)
    if done.returncode != 0:
        return done, None
    with h5py.File(folder / "out.h5") as file:
        return done, {name: file[f"parameters/{name}/weight"][:].astype(float) for name in weights}


def test_size(checks, folder):
    """U(cD) = c^k U(D) to 1e-5 for c from 1e-30 to 1e30, one step from W = 0 with lr 1; a zero row stays zero."""
    random = np.random.default_rng(1)
    direction = random.standard_normal(SHAPE)
    direction[5] = 0
    for ranks, grid in ((1, ""), (4, ", grid: 2x2, block: 5")):
        config, weights, gradients = "mode: embedded\ngroups:\n", {}, {}
        for name, (keys, power) in FREE.items():
            config += f"- {{match: {{name: '{name}.*'}}, lr: 1, {keys}{grid}}}\n"
            for i, factor in enumerate(FACTORS):
                if power == 1 and abs(np.log10(factor)) > 20:
                    continue
                weights[f"{name}.{i}"] = np.zeros(SHAPE)
                gradients[f"{name}.{i}"] = factor * direction
        done, found = replay(folder, config, weights, [gradients], ranks)
        if not checks.that(done.returncode == 0, f"replay on {ranks}: {done.stderr}"):
            continue
        for key in weights:
            name, i = key.rsplit(".", 1)
            factor = FACTORS[int(i)] ** FREE[name][1]
            one, other = found[f"{name}.{ONE}"], found[key] / factor
            error = np.abs(other - one).max() / np.abs(one).max()
            checks.that(error <= 1e-5, f"{name} on {ranks}: D and {FACTORS[int(i)]:g} D differ by {error:.1e}")
        centered = ("rows_inverse", "row_then_polar", "unit_rows")
        for name in FREE:
            if name not in centered:
                left = np.abs(found[f"{name}.{ONE}"][5]).max()
                checks.that(left <= (1e-12 if "exact" in name or name == "nu" else 0),  # eigenvectors in float64
                            f"{name}: a zero row becomes {left:.1e}")


def test_values(checks, folder):
    """Relative ε against numpy: ε times the mean eigenvalue, ε times the rows' root mean square."""
    random = np.random.default_rng(2)
    d = random.standard_normal(SHAPE).astype(np.float32).astype(float) * np.geomspace(1, 1e-2, 24)[:, None]
    config = """mode: embedded
groups:
- {match: {name: gram}, lr: 1, rule: left_spectral, momentum: none, solver: exact, alpha: 0, eps: 0.1, eps_mode: relative}
- {match: {name: rows}, lr: 1, rule: row_norm, momentum: none, eps: 0.1, eps_mode: relative}
- {match: {name: nu}, lr: 1, rule: polar, momentum: none, alpha: 1, eps: 10, eps_mode: relative}
"""
    names = ("gram", "rows", "nu")
    done, found = replay(folder, config, {name: np.zeros(SHAPE) for name in names}, [{name: d for name in names}])
    if not checks.that(done.returncode == 0, done.stderr):
        return
    u, s, v = np.linalg.svd(d, full_matrices=False)
    norms = np.linalg.norm(d, axis=1, keepdims=True)
    expected = {"gram": u * (s / np.sqrt(s * s + 0.1 * (s * s).sum() / 24)) @ v,
                "rows": d / (norms + 0.1 * np.sqrt((norms * norms).mean())),
                "nu": max(s.sum(), 10 * np.linalg.norm(d)) * u @ v}
    for name in names:
        error = np.abs(found[name] + expected[name]).max() / np.abs(expected[name]).max()
        checks.that(error <= 1e-5, f"{name}: {error:.1e} from numpy")


def test_told(checks, folder):
    """Where ε decides, the first owner says so once per parameter, and the metrics give its share."""
    random = np.random.default_rng(3)
    d = random.standard_normal((6, 40)) * np.geomspace(1, 1e-2, 6)[:, None]
    d[2] = 0
    config = f"""mode: embedded
metrics: {{path: {folder / 'metrics.jsonl'}, every: 1}}
groups:
- {{match: {{name: 'gram*'}}, lr: 1, rule: right_spectral, momentum: none}}
- {{match: {{name: 'rows*'}}, lr: 1, rule: row_norm, momentum: none, grid: GRID}}
- {{match: {{name: 'both*'}}, lr: 1, rule: hybrid, momentum: none}}
- {{match: {{name: 'free*'}}, lr: 1, rule: muon, momentum: none}}
"""
    for ranks, grid in ((1, "1x1"), (2, "2x1"), (2, "1x2")):
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        names = [kind + size for kind in ("gram", "rows", "both", "free") for size in ("", "_small")]
        gradient = {name: d * (1e-8 if name.endswith("_small") else 1) for name in names}
        done, _ = replay(folder, config.replace("GRID", grid), {name: np.ones(d.shape) for name in names},
                         [gradient, gradient], ranks)
        if not checks.that(done.returncode == 0, done.stderr):
            continue
        for name in names:
            said = [line for line in done.stderr.splitlines() if f"'{name}'" in line and "eps" in line]
            due = name.endswith("_small") and not name.startswith("free")
            checks.that(len(said) == due and all("eps_mode: relative" in line for line in said),
                        f"{name} on {grid}: {len(said)} warnings instead of {int(due)}: {said}")
        norms = np.linalg.norm(d, axis=1)
        median, mean, eps = np.median(norms[norms > 0]), (norms ** 2).sum() / 6, 1e-8
        shares = {"gram": eps / (eps + mean), "gram_small": eps / (eps + 1e-16 * mean), "rows": eps / (eps + median),
                  "rows_small": eps / (eps + 1e-8 * median)}
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            name = line["parameter"]
            if name in shares:
                checks.that(abs(line["damping_share"] / shares[name] - 1) < 1e-5,
                            f"{name} on {grid}: damping_share {line['damping_share']} instead of {shares[name]}")
            checks.that(("damping_share" in line) == (not name.startswith("free")), f"{name}: damping_share or not")
        checks.that(len(lines) == 16, f"{len(lines)} lines of metrics")


def main():
    checks = job.Checks()
    for test in (test_size, test_values, test_told):
        with tempfile.TemporaryDirectory() as folder:
            test(checks, pathlib.Path(folder))
    sys.exit(checks.failed > 0)


if __name__ == "__main__":
    main()
