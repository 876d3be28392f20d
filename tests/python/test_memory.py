"""The largest memory of owners, as the system counts it, is within 10 % of what `equishard plan` predicts."""
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

checks = job.Checks()
OWNERS = 2
SHAPES = {"model.embed_tokens.weight": [60000, 512], **{f"up_proj.{i}.weight": [2048, 512] for i in range(12)}}
CONFIG = """
mode: service
groups:
  - {match: {role: embedding}, rule: row_norm, lr: 0.1}
  - {match: {}, rule: RULE, lr: 0.1}
"""
TRAINER = f"""
import torch, equishard
tensors = {{name: torch.zeros(shape) for name, shape in {SHAPES}.items()}}
optimizer = equishard.Optimizer([(name, tensor.requires_grad_()) for name, tensor in tensors.items()], config=CONFIG)
for step in range(2):
    for tensor in tensors.values():
        tensor.grad = torch.full_like(tensor, 1 + step)
        tensor.grad.view(-1)[::7] = -1
    optimizer.step()
    if optimizer.checkpoint_due():
        optimizer.checkpoint()
optimizer.close()
"""
# Runs a program and writes the largest memory that it had, in bytes.
MEASURE = """
import os, sys
path, *program = sys.argv[1:]
child = os.fork()
if child == 0:
    os.execvp(program[0], program)
_, status, usage = os.wait4(child, 0)
open(f"{path}.{os.environ['OMPI_COMM_WORLD_RANK']}", "w").write(str(1024 * usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def predicted(config, manifest):
    """Peak bytes of every owner."""
    table = job.finish([job.COMMAND, "plan", "--config", config, "--manifest", manifest, "--owners", OWNERS]).stdout
    lines = table.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("owner "))
    return [float(line.split()[-1]) * 2**20 for line in lines[start + 1:]]


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"parameters": [{"name": name, "shape": shape} for name, shape in SHAPES.items()]}))
    for rule, writing in ("muon", None), ("hybrid", None), ("muon", "true"), ("muon", "false"):
        config = folder / f"{rule}-{writing}.yaml"
        checkpoint = f"checkpoint: {{directory: {folder / 'checkpoints'}, every: 1, keep: 1, async: {writing}}}\n"
        config.write_text(CONFIG.replace("RULE", rule) + (checkpoint if writing else ""))
        result = job.run((1, job.PYTHON, "-c", TRAINER.replace("CONFIG", repr(str(config)))),
                         (OWNERS, job.PYTHON, "-c", MEASURE, folder / rule, job.COMMAND, "serve"))
        if not checks.that(result.returncode == 0, f"{rule}: status {result.returncode}\n{result.stderr}"):
            continue
        measured = [int((folder / f"{rule}.{1 + owner}").read_text()) for owner in range(OWNERS)]
        for owner, (expected, found) in enumerate(zip(predicted(config, manifest), measured)):
            print(f"{config.stem}, owner {owner}: {expected / 2**20:.1f} MiB predicted, {found / 2**20:.1f} measured")
            checks.at_most(abs(found / expected - 1), 0.1, f"{config.stem}, owner {owner}: from the prediction")
sys.exit(checks.failed > 0)
