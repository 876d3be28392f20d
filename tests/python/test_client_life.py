"""Sessions of the PyTorch client one after another, beside one another and after errors; ends of processes whose MPI another
library has started."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

TRAINER = pathlib.Path(__file__).resolve().parent / "living.py"
checks = job.Checks()

with tempfile.TemporaryDirectory() as name:
    for mode, trainers, owners in (("service", 2, 1), ("embedded", 2, 0), ("embedded", 1, 0)):
        directory = pathlib.Path(name) / f"{mode}-{trainers}"
        directory.mkdir()
        programs = [(trainers, job.PYTHON, TRAINER, "--mode", mode, "--directory", directory)]
        if owners:
            programs.append(job.serve(owners))
        result = job.run(*programs, timeout=100)
        checks.that(result.returncode == 0, f"{mode} {trainers}+{owners}: status {result.returncode}\n"
                    f"{result.stdout}{result.stderr}")

sys.exit(checks.failed > 0)
