"""A rank that hangs, neither working nor dead, does not hold the job for longer than `deadline`: the job ends with a
message and status 5, its checkpoints are whole."""
import os
import signal
import subprocess
import sys
import tempfile
import time

from jobs import Jobs, job

checks = job.Checks()


def stop_a_rank(all_jobs, mode, trainers, owners, victim):
    what = f"{mode}, rank {victim} stopped"
    name = f"stopped-{mode}-{victim}"
    config, directory = all_jobs.config(name, mode, every=3), all_jobs.directory / name
    config.write_text(config.read_text().replace("deadline: 60", "deadline: 3"))
    running = job.start(job.launch_line(*all_jobs.programs(config, trainers, owners, "steps=100000", "pause=10")))
    try:
        while not (directory / "latest").exists():
            time.sleep(0.05)
        os.kill(job.ranks(running.pid)[victim], signal.SIGSTOP)
        _, messages = running.communicate(timeout=30)
        checks.that(running.returncode == 5, f"{what}: status {running.returncode}")
        checks.that("timed out after 3 s" in messages, f"{what}: no message: {messages}")
    except subprocess.TimeoutExpired:
        checks.that(False, f"{what}: the job goes on")
    finally:
        job.end(running)
    verified = job.run((1, job.COMMAND, "verify", directory))
    checks.that(verified.returncode == 0, f"{what}: the checkpoint: {verified}")


with tempfile.TemporaryDirectory() as name:
    all_jobs = Jobs(name, None)
    all_jobs.trainer = all_jobs.c_trainer()
    stop_a_rank(all_jobs, "service", 2, 1, 1)
    stop_a_rank(all_jobs, "service", 2, 1, 2)
    stop_a_rank(all_jobs, "embedded", 2, 0, 0)

sys.exit(checks.failed > 0)
