"""The PyTorch client with tensors on a GPU, which are staged through pinned host memory. Skipped without one."""
import pathlib
import sys
import tempfile

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

if not torch.cuda.is_available():
    print("torch sees no GPU")
    sys.exit(77)

TRAINER = pathlib.Path(__file__).resolve().parent / "trainer.py"
checks = job.Checks()
with tempfile.TemporaryDirectory() as name:
    config = pathlib.Path(name) / "config.yaml"
    config.write_text("mode: embedded\ngroups:\n  - match: {}\n    rule: adamw\n    lr: 0.05\n    weight_decay: 0.1\n")
    watching = TRAINER.parent / "watching.py"
    for group in "writes", "refused", "gradients":
        result = job.run((2, job.PYTHON, watching, group, "--mode", "embedded", "--directory", name, "--device", "cuda"),
                         TRAINERS="2")
        checks.that(result.returncode == 0, f"{group}: status {result.returncode}\n{result.stdout}{result.stderr}")
    for case in "compare", "shards":
        result = job.run((2, job.PYTHON, TRAINER, case, "--config", config, "--device", "cuda"), TRAINERS="2")
        checks.that(result.returncode == 0, f"{case}: status {result.returncode}\n{result.stdout}{result.stderr}")
sys.exit(checks.failed > 0)
