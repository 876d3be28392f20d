"""Two jobs on one directory of checkpoints: the second is refused and says who has it; a killed job holds nobody up."""
import os
import pathlib
import signal
import socket
import sys
import tempfile
import time

import jobs
from jobs import Jobs, job

checks = job.Checks()


def refused(what, result, owner):
    lines = [line for line in result.stderr.splitlines() if "equishard: error: " in line]
    texts = [f"process {owner} on host {socket.gethostname()}, since 2", "another job", "of its own"]
    checks.that(result.returncode == 2 and len(lines) == 1 and all(text in lines[0] for text in texts),
                f"{what}: status 2 and {texts}: {result}")


def second_job(all_jobs, mode, trainers, owners):
    name = f"{mode}-{trainers}"
    config, directory = all_jobs.config(name, mode, every=3), all_jobs.directory / name
    running = job.start(job.launch_line(*all_jobs.programs(config, trainers, owners, "steps=100000", "pause=10")))
    try:
        while not (directory / "latest").exists():
            time.sleep(0.05)
        ranks = job.ranks(running.pid)
        owner = ranks[trainers if owners else 0]
        for arguments in ([], ["resume="]):  # a new one and a restart, in the other mode too
            refused(name, all_jobs.run(config, trainers, owners, "steps=1000", *arguments), owner)
        refused(name, all_jobs.run(all_jobs.config(f"{name}-alone", "embedded", checkpoints=name), 1, 0, "resume="), owner)
        checks.that(running.poll() is None, f"{name}: the first job goes on")
        for process in ranks.values():
            os.kill(process, signal.SIGKILL)
        running.communicate(timeout=30)
    finally:
        job.end(running)
    step = jobs.newest(directory)
    result = all_jobs.run(config, trainers, owners, "resume=", f"steps={step + 2}")
    checks.that(result.returncode == 0 and jobs.newest(directory) == step + 2, f"{name}: after the first was killed: {result}")


with tempfile.TemporaryDirectory() as directory:
    all_jobs = Jobs(pathlib.Path(directory), None)
    all_jobs.trainer = all_jobs.c_trainer()
    second_job(all_jobs, "service", 2, 1)
    second_job(all_jobs, "embedded", 2, 0)
sys.exit(checks.failed > 0)
