"""What programs write into weights and gradients of the PyTorch client, clipping and loss scaling: beside torch's own AdamW in
one process, in both modes."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

TRAINER = pathlib.Path(__file__).resolve().parent / "watching.py"
checks = job.Checks()

RUNS = [  # group of cases, mode, trainers, owners
    ("writes", "service", 2, 1),
    ("writes", "embedded", 2, 0, "--staged"),
    ("gradients", "service", 2, 2),
    ("gradients", "embedded", 3, 0),
    ("gradients", "embedded", 1, 0, "--staged"),
    ("refused", "embedded", 2, 0),  # where a session that failed is followed by another
]

with tempfile.TemporaryDirectory() as name:
    for number, (group, mode, trainers, owners, *more) in enumerate(RUNS):
        directory = pathlib.Path(name) / str(number)
        directory.mkdir()
        programs = [(trainers, job.PYTHON, TRAINER, group, "--mode", mode, "--directory", directory, *more)]
        if owners:
            programs.append(job.serve(owners))
        result = job.run(*programs, TRAINERS=str(trainers), timeout=100)
        checks.that(result.returncode == 0, f"{group} {mode} {trainers}+{owners}: status {result.returncode}\n"
                    f"{result.stdout}{result.stderr}")

sys.exit(checks.failed > 0)
