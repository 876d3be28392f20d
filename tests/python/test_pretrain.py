"""launch/pretrain.sh on a tiny model: both modes, killed and resumed, resumed on other ranks, wrong usage."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

PRETRAIN = job.ROOT / "launch" / "pretrain.sh"
TINY = ("--layers 1 --hidden 32 --intermediate 48 --heads 2 --head-dim 16 --pieces 512 --length 32 --batch 6 "
        "--evaluate-every 20 --checkpoint-every 10").split()
checks = job.Checks()


def weights(runs, name, step):
    with h5py.File(runs / name / "checkpoints" / f"step-{step:08d}.h5", "r") as file:
        return {key: file[f"parameters/{key}/weight"][()] for key in file["parameters"]}


def metrics(runs, name):
    return [json.loads(line) for line in (runs / name / "metrics.jsonl").read_text().splitlines()]


def same_losses(a, b):
    return [(x["step"], x["loss"]) for x in a] == [(x["step"], x["loss"]) for x in b]


def pretrain(runs, *arguments, status=0):
    result = job.finish([PRETRAIN, "--runs", runs, *arguments], timeout=120)
    checks.that(result.returncode == status, f"{' '.join(arguments)}: status {result.returncode}, not {status}\n"
                f"{result.stdout}{result.stderr}")
    return result


def children(process):
    """Processes below one: (id, command line)."""
    found = []
    for number in subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout.split():
        try:
            command = pathlib.Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except FileNotFoundError:
            continue
        found += [(int(number), command)] + children(number)
    return found


def kill_one(runs, name, which, after):
    """Start a run, kill one of its ranks when it has taken `after` steps; its exit status must come soon."""
    process = subprocess.Popen([PRETRAIN, "--runs", runs, "--name", name, *TINY, "--steps", "5000"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env=job.environment(), start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not (runs / name / "metrics.jsonl").exists() or len(metrics_so_far(runs, name)) < after:
            time.sleep(0.05)
            checks.that(time.monotonic() < deadline, f"{name}: no {after} steps in a minute") or sys.exit(1)
        ranks = [number for number, command in children(process.pid)
                 if which in command and "mpirun" not in command.split()[0]]
        os.kill(ranks[-1], signal.SIGKILL)
        begin = time.monotonic()
        _, messages = process.communicate(timeout=60)
        checks.at_most(time.monotonic() - begin, 30, f"{name}: seconds until the job ended")
        checks.that(process.returncode == 5, f"{name}: status {process.returncode}, not 5\n{messages}")
        checks.that("a rank was lost (signal 9)" in messages, f"{name}: no message\n{messages}")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def metrics_so_far(runs, name):
    return (runs / name / "metrics.jsonl").read_text().splitlines()


with tempfile.TemporaryDirectory() as directory:
    runs = pathlib.Path(directory)
    ranks = ["--trainers", "2", "--owners", "2"]
    result = pretrain(runs, "--name", "whole", *TINY, *ranks, "--steps", "40", "--keep", "9")
    for text in "validation loss", "unigram entropy", "trainer push", "owner update", "of the owners' work was hidden":
        checks.that(text in result.stdout, f"{text!r} is printed")
    for file in "metrics.jsonl", "loss.png", "config.yaml", "options.json", "checkpoints/latest":
        checks.that((runs / "whole" / file).exists(), f"{file} is there")
    whole = weights(runs, "whole", 40)
    lines = metrics(runs, "whole")
    checks.that([line["step"] for line in lines] == list(range(1, 41)), "one line per step")
    checks.that(lines[-1]["loss"] < lines[0]["loss"], "the loss falls")

    # Ended at step 40, after it was cut at step 20: the same bits.
    cut = runs / "cut"
    subprocess.run(["cp", "-r", runs / "whole", cut], check=True)
    for step in 30, 40:
        (cut / "checkpoints" / f"step-{step:08d}.h5").unlink()
    (cut / "checkpoints" / "latest").unlink()
    (cut / "checkpoints" / "latest").symlink_to("step-00000020.h5")
    pretrain(runs, "--name", "cut", "--resume")
    checks.that(same_losses(lines, metrics(runs, "cut")), "cut and resumed: the same losses")
    resumed = weights(runs, "cut", 40)
    checks.that(all(np.array_equal(whole[key], resumed[key]) for key in whole), "cut and resumed: the same bits")

    # On other ranks and in the other mode: 20 steps later nearly the same weights.
    pretrain(runs, "--name", "cut", "--resume", str(cut / "checkpoints" / "step-00000020.h5"), "--embedded",
             "--trainers", "3")
    resumed = weights(runs, "cut", 40)
    for key in whole:
        checks.at_most(np.linalg.norm(whole[key] - resumed[key]) / np.linalg.norm(whole[key]), 1e-4,
                       f"{key}: resumed on other ranks")

    for which in "pretrain.py", "serve":
        name = f"lost-{which}"
        kill_one(runs, name, which, 25)
        pretrain(runs, "--name", name, "--resume", "--steps", "40")
        checks.that([line["step"] for line in metrics(runs, name)] == list(range(1, 41)), "no line lost or twice")

    pretrain(runs, "--name", "cut", *TINY, status=2)  # it has checkpoints
    pretrain(runs, "--name", "cut", "--resume", "--seed", "9", status=2)  # another run
    pretrain(runs, "--name", "none", "--resume", status=2)
    pretrain(runs, "--name", "no-owner", *TINY, "--owners", "0", status=2)
    pretrain(runs, "--name", "no-rules", *TINY, "--config", str(runs / "missing.yaml"), status=3)

sys.exit(checks.failed > 0)
