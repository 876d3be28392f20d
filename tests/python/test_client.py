"""The PyTorch client under mpirun, both modes, beside torch's own AdamW."""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

TRAINER = pathlib.Path(__file__).resolve().parent / "trainer.py"
checks = job.Checks()

CONFIG = """
mode: {mode}
on_nonfinite: {on_nonfinite}
checkpoint: {{directory: {directory}, every: 3, keep: 2}}
groups:
  - match: {{role: mlp_gate_up}}
    rule: muon
    lr: 0.02
  - match: {{}}
    rule: adamw
    lr: 0.05
    weight_decay: 0.1
"""

# Names under which a BLAS may be called; whoever reaches these has found the wrong library.
DECOY = """
#include <stdlib.h>
""" + "".join(f"void {name}_(void) {{ abort(); }}\n" for name in (
    "sgemm", "dgemm", "sgemmt", "ssyrk", "ssymm", "strsm", "strmm", "sgemv", "sger", "saxpy", "scopy", "sscal", "sdot",
    "snrm2", "daxpy", "dcopy", "dscal", "ddot", "dnrm2", "sswap", "isamax"))


def run(case, mode, trainers, owners, directory, *arguments, on_nonfinite="skip"):
    config = directory / f"{mode}.yaml"
    config.write_text(CONFIG.format(mode=mode, directory=directory / "checkpoints", on_nonfinite=on_nonfinite))
    programs = [(trainers, job.PYTHON, TRAINER, case, "--config", config, *arguments)]
    if owners:
        programs.append(job.serve(owners))
    result = job.run(*programs, TRAINERS=str(trainers), timeout=100)
    checks.that(result.returncode == 0, f"{case} {mode} {trainers}+{owners}: status {result.returncode}\n"
                f"{result.stdout}{result.stderr}")


def compare(one, other, what):
    with np.load(one) as a, np.load(other) as b:
        for key in a.files:
            checks.that(np.array_equal(a[key], b[key]), f"{what}: {key} differs")


with tempfile.TemporaryDirectory() as name:
    directory = pathlib.Path(name)
    run("compare", "embedded", 1, 0, directory)
    run("compare", "service", 2, 2, directory)
    run("compare", "embedded", 3, 0, directory, "--staged")
    run("shards", "service", 3, 2, directory)
    run("shards", "embedded", 2, 0, directory, "--staged")

    run("restart", "service", 2, 1, directory, "--out", directory / "whole.npz")
    run("restart", "embedded", 3, 0, directory, "--resume", directory / "checkpoints", "--out", directory / "resumed.npz")
    with np.load(directory / "whole.npz") as whole, np.load(directory / "resumed.npz") as resumed:
        for key in whole.files:
            # Means over 2 and over 3 equal gradients round differently.
            checks.at_most(np.abs(whole[key] - resumed[key]).max(), 1e-5 if "half" not in key else 1e-2,
                           f"{key}: resumed on other ranks")

    run("scaler", "service", 2, 1, directory)
    # Gradients pushed in backward, in service by default, give the bits of gradients pushed in step; with one backward a
    # step and with several that add up; updated as they come (error), and when all are there (skip).
    for number, (mode, trainers, owners, policy, parts) in enumerate((
            ("service", 2, 2, "error", 1), ("service", 2, 1, "skip", 3), ("embedded", 2, 0, "error", 2))):
        late, early = directory / f"late-{number}.npz", directory / f"early-{number}.npz"
        arguments = [mode, trainers, owners, directory, "--parts", parts]
        run("hooks", *arguments, "--push", "step", "--pushed", 0, "--out", late, on_nonfinite=policy)
        run("hooks", *arguments, "--push", "default" if owners else "backward", "--out", early, on_nonfinite=policy)
        compare(late, early, "pushed in backward")
        if number == 0:  # a power of two is divided out without rounding
            run("hooks", *arguments, "--scale", 1024, "--out", early, on_nonfinite=policy)
            compare(late, early, "scaled")
            run("hooks", *arguments, "--staged", "--out", early, on_nonfinite=policy)
            compare(late, early, "staged")
    run("hooks", "embedded", 2, 0, directory, "--pushed", 0, "--out", early)

    decoy = directory / "decoy.so"
    (directory / "decoy.c").write_text(DECOY)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", decoy, directory / "decoy.c"], check=True)
    run("blas", "embedded", 2, 0, directory, "--decoy", decoy)

sys.exit(checks.failed > 0)
