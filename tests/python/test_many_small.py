"""A model of many small tensors: the client costs no more than torch's own AdamW, and in proportion to their number."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

TRAINER = pathlib.Path(__file__).resolve().parent / "small.py"
checks = job.Checks()

result = job.run((1, job.PYTHON, TRAINER), timeout=100)
if checks.that(result.returncode == 0, f"status {result.returncode}\n{result.stdout}{result.stderr}"):
    few, _, many, torchs = (float(word) for word in result.stdout.split())
    # A quarter of torch's when this was written; a call of the library for every tensor makes it half.
    checks.at_most(many, 0.4 * torchs, f"seconds of a step with 2000 tensors (torch: {torchs:.3g})")
    # Ten times the tensors; and three halves for the processor's caches, which 200 tensors fit into.
    checks.at_most(many, 15 * few, f"seconds of a step with 2000 tensors (with 200: {few:.3g})")
sys.exit(checks.failed > 0)
