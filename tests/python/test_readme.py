"""The program of the README's section on PyTorch, as it stands there: in service mode, interrupted in the middle of an
epoch and started again, it comes to the same bits; and as one plain process. Then the README's commands on checkpoints,
as written, on what that program wrote."""
import itertools
import os
import pathlib
import sys
import tempfile

import h5py
import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()


def block(begin):
    """The indented lines of the README from one that is `begin` on."""
    lines = (job.ROOT / "README.md").read_text().splitlines()
    first = lines.index("    " + begin)
    indented = itertools.takewhile(lambda line: not line or line.startswith("    "), lines[first:])
    return "\n".join(line[4:] for line in indented) + "\n"


def run(*programs):
    result = job.run(*programs, timeout=60) if len(programs) > 1 else job.finish(programs[0], timeout=60)
    checks.that(result.returncode == 0, f"status {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout.splitlines()


def weights(path):
    with h5py.File(path) as file:
        return {name: file[f"parameters/{name}/weight"][()] for name in file["parameters"]}


def go_back(checkpoints, step):
    """As if the job had ended after a step."""
    for path in checkpoints.glob("step-*.h5"):
        if path.name > f"step-{step:08}.h5":
            path.unlink()
    (checkpoints / "latest").unlink()
    os.symlink(f"step-{step:08}.h5", checkpoints / "latest")


def main(directory):
    os.chdir(directory)
    program, configuration = directory / "train.py", directory / "train.yaml"
    program.write_text(block("# train.py"))
    text = block("mode: service")  # the first such, train.yaml
    configuration.write_text(text.replace("every: 12", "every: 12, keep: 0"))
    trainers = (2, job.PYTHON, program), job.serve(1)
    whole = run(*trainers)
    checks.that(len(whole) == 6 and whole[0].startswith("step 10: loss "), f"the first trainer prints: {whole}")
    last = directory / "checkpoints/step-00000060.h5"
    expected = weights(last)
    go_back(directory / "checkpoints", 24)  # an epoch of each of two trainers is 15 batches
    checks.that(run(*trainers) == whole[2:], f"started again after step 24 it prints the same: {whole}")
    found = weights(last)
    checks.that(all(np.array_equal(found[name], expected[name]) for name in expected), "and comes to the same weights")

    configuration.write_text(text.replace("mode: service", "mode: embedded").replace("checkpoints", "alone"))
    alone = run([job.PYTHON, program])
    checks.that(len(alone) == 12 and float(alone[-1].split()[-1]) < 0.3, f"one plain process trains: {alone}")
    commands_on_checkpoints(directory)


def commands_on_checkpoints(directory):
    (directory / "build").symlink_to(job.BUILD)
    (directory / "src").symlink_to(job.ROOT / "src")
    for name, checkpoints in ("first", "checkpoints"), ("second", "alone"):
        (directory / "runs" / name).mkdir(parents=True)
        (directory / "runs" / name / "checkpoints").symlink_to(directory / checkpoints)
    torch.save({"weight": torch.ones(2, 3)}, directory / "model.pt")
    lines = [line for line in block("build/equishard inspect runs/first/checkpoints     # what is in it, at a glance")
             .splitlines() if line]
    checks.that(len(lines) == 6, f"six commands on checkpoints: {lines}")
    for line in lines:
        run(["bash", "-c", line.replace("python3", job.PYTHON)])


with tempfile.TemporaryDirectory() as temporary:
    main(pathlib.Path(temporary))
sys.exit(checks.failed > 0)
