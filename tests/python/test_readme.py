"""The program of the README's section on PyTorch, as it stands there: in service mode, interrupted in the middle of an
epoch and started again, it comes to the same bits; and as one plain process."""
import itertools
import os
import pathlib
import sys
import tempfile

import h5py
import numpy as np

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


with tempfile.TemporaryDirectory() as temporary:
    main(pathlib.Path(temporary))
sys.exit(checks.failed > 0)
