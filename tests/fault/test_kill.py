"""A job that loses a rank to SIGKILL ends by itself, and a restart from its newest checkpoint reaches the same bits as
a job that was left alone."""
import concurrent.futures
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import jobs
from jobs import Jobs, job

PRETRAIN = job.ROOT / "launch" / "pretrain.sh"
TINY = ("--layers 1 --hidden 32 --intermediate 48 --heads 2 --head-dim 16 --pieces 512 --length 32 --batch 6 "
        "--evaluate-every 200 --checkpoint-every 5").split()
END_WITHIN = 30  # seconds
checks = job.Checks()


def wait_for(condition, what, seconds=60, pause=0.01):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"FAILED: {what}: not within {seconds} s")
        time.sleep(pause)


def ended(process, what):
    """Wait for the end of a job that lost a rank; its messages."""
    begin = time.monotonic()
    try:
        _, messages = process.communicate(timeout=2 * END_WITHIN)
    except subprocess.TimeoutExpired:
        checks.that(False, f"{what}: no end after {2 * END_WITHIN} s")
        return ""
    checks.at_most(time.monotonic() - begin, END_WITHIN, f"{what}: seconds until the job ended")
    checks.that(process.returncode != 0, f"{what}: status 0")
    checks.that("signal 9" in messages, f"{what}: no message: {messages}")
    return messages


def same(directory, whole, step, what):
    """The checkpoints of a step in two directories are the same bits; the restarted job did not begin anew."""
    file, other = jobs.checkpoint(directory, step), jobs.checkpoint(whole, step)
    if not checks.that(file.exists(), f"{what}: no checkpoint of step {step}"):
        return
    different = jobs.differences(file, other)
    checks.that(not different, f"{what}: other bits after the restart: {different}")


def continue_and_compare(all_jobs, config, trainers, owners, arguments, directory, whole, step, what):
    newest = os.readlink(directory / "latest")
    result = all_jobs.run(config, trainers, owners, "resume=", *arguments)
    checks.that(result.returncode == 0, f"{what}: the restart: {result}")
    first = result.stdout.split("\n")[0]
    checks.that(first == f"step {int(newest[5:13])}", f"{what}: the restart from {newest} began with {first}")
    checks.that(not list(directory.glob("*.partial")), f"{what}: nothing is left of a checkpoint that was cut off")
    same(directory, whole, step, what)


def kill_at_random(all_jobs, mode, trainers, owners, victims):
    """Ranks die at random moments of a job that takes some 40 ms per step and writes a checkpoint every three."""
    whole, steps, moments = f"whole-{mode}", 40, random.Random(f"{mode} 20")
    result = all_jobs.run(all_jobs.config(whole, mode, every=3), trainers, owners, f"steps={steps}")
    checks.that(result.returncode == 0, f"{mode}: a job that is left alone: {result}")
    for count, victim in enumerate(victims):
        what = f"{mode}, rank {victim} killed"
        name = f"killed-{mode}-{count}"
        config, directory = all_jobs.config(name, mode, every=3), all_jobs.directory / name
        process = job.start(job.launch_line(*all_jobs.programs(config, trainers, owners, f"steps={steps}", "pause=30")))
        try:
            wait_for(lambda: (directory / "latest").exists(), what)
            time.sleep(moments.uniform(0, 0.8))
            os.kill(job.ranks(process.pid)[victim], signal.SIGKILL)
            ended(process, what)
        finally:
            job.end(process)
        checks.that(not jobs.checkpoint(directory, steps).exists(), f"{what}: it had ended before it was killed")
        continue_and_compare(all_jobs, config, trainers, owners, [f"steps={steps}"], directory,
                             all_jobs.directory / whole, steps, what)


def kill_while_writing(all_jobs, mode, trainers, owners, victims):
    """Ranks die while a checkpoint of some megabytes is written: its file is there, but not yet under its name."""
    whole, steps, moments = f"whole-large-{mode}", 8, random.Random(f"{mode} 21")
    arguments = [f"steps={steps}", "size=160"]
    result = all_jobs.run(all_jobs.config(whole, mode, every=1), trainers, owners, *arguments)
    checks.that(result.returncode == 0, f"{mode}: a large job that is left alone: {result}")
    for count, victim in enumerate(victims):
        what = f"{mode}, rank {victim} killed while a checkpoint is written"
        name = f"writing-{mode}-{count}"
        config, directory = all_jobs.config(name, mode, every=1), all_jobs.directory / name
        process = job.start(job.launch_line(*all_jobs.programs(config, trainers, owners, *arguments)))
        try:
            wait_for(lambda: (directory / "latest").exists(), what)
            number = job.ranks(process.pid)[victim]
            wait_for(lambda: any(".h5.partial" in entry for entry in os.listdir(directory)), what, pause=0.0003)
            time.sleep(moments.uniform(0, 0.004))
            os.kill(number, signal.SIGKILL)
            ended(process, what)
        finally:
            job.end(process)
        interrupted.append(any(directory.glob("*.h5.partial")))
        continue_and_compare(all_jobs, config, trainers, owners, arguments, directory, all_jobs.directory / whole, steps,
                             what)


def metrics(runs, name):
    file = runs / name / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def pretrain(runs, *arguments):
    result = job.finish([PRETRAIN, "--runs", runs, *arguments], timeout=100)
    checks.that(result.returncode == 0, f"pretrain.sh {' '.join(arguments)}: {result}")


def kill_pretraining(runs):
    """The example, embedded: a rank dies, the launcher says how to go on, and the bits are the same."""
    arguments = [*TINY, "--embedded", "--trainers", "2", "--steps", "60"]
    pretrain(runs, "--name", "whole", *arguments)
    process = job.start([PRETRAIN, "--runs", runs, "--name", "killed", *arguments])
    try:
        wait_for(lambda: metrics(runs, "killed") > 12, "pretrain.sh")
        os.kill(job.ranks(process.pid)[1], signal.SIGKILL)
        messages = ended(process, "pretrain.sh")
    finally:
        job.end(process)
    checks.that(process.returncode == 5, f"pretrain.sh: status {process.returncode}, not 5")
    checks.that("launch/pretrain.sh --resume --name killed" in messages, f"pretrain.sh: how to go on\n{messages}")
    checks.that(not jobs.checkpoint(runs / "killed/checkpoints", 60).exists(), "pretrain.sh: it had ended before")
    pretrain(runs, "--name", "killed", "--resume")
    same(runs / "killed/checkpoints", runs / "whole/checkpoints", 60, "pretrain.sh")


interrupted = []
# mpirun waits for the ranks that it ends: two jobs at a time.
with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
    c_jobs = Jobs(scratch, None)
    c_jobs.trainer = c_jobs.c_trainer()
    more = 6 if job.EVERYTHING else 1
    parts = [pool.submit(kill_pretraining, pathlib.Path(scratch) / "runs"),
             pool.submit(kill_at_random, c_jobs, "service", 2, 2, [0, 1, 2, 3] * more),  # trainers, owners
             pool.submit(kill_at_random, c_jobs, "embedded", 3, 0, [0, 2] * more),
             pool.submit(kill_while_writing, c_jobs, "service", 2, 2, [2, 3] * more + [0] * (more > 1)),
             pool.submit(kill_while_writing, c_jobs, "embedded", 2, 0, [1] * more)]
    for part in parts:
        part.result()
checks.that(any(interrupted), "at least one checkpoint was cut off while it was written")
sys.exit(checks.failed > 0)
