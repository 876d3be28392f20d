"""When checkpoints are written: after so many minutes, at the end of the schedule, and when a signal to any rank, to
mpirun or to the launcher asks the job to end, which then goes on later to the same bits."""
import concurrent.futures
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import jobs
from jobs import Jobs, job

PRETRAIN = job.ROOT / "launch" / "pretrain.sh"
TINY = ("--layers 1 --hidden 32 --intermediate 48 --heads 2 --head-dim 16 --pieces 512 --length 32 --batch 6 "
        "--evaluate-every 200 --checkpoint-every 100000").split()
END_WITHIN = 30  # seconds
STEPS = 400  # more than there are before the signal
checks = job.Checks()


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"FAILED: {what}: not within {seconds} s")
        time.sleep(0.02)


def newest_step(directory):
    try:
        return int(os.readlink(directory / "latest")[len("step-"):-len(".h5")])
    except FileNotFoundError:
        return 0


def steps_of(directory):
    return sorted(int(path.stem[len("step-"):]) for path in directory.glob("step-*.h5"))


def signalled(all_jobs, name, trainers, owners, number, victim):
    """A signal to a rank, or to mpirun (victim None): a checkpoint of the step under way, a good end, and from there the
    bits of a job that was left alone."""
    what = f"{name}, {signal.Signals(number).name} to {'mpirun' if victim is None else f'rank {victim}'}"
    mode = "service" if owners else "embedded"
    directory = all_jobs.directory / name
    config = all_jobs.config(name, mode, every=0)
    process = job.start(job.launch_line(*all_jobs.programs(config, trainers, owners, f"steps={STEPS}", "pause=20")))
    try:
        for line in process.stdout:
            if line.startswith("step 5"):
                break
        os.kill(process.pid if victim is None else job.ranks(process.pid)[victim], number)
        _, messages = process.communicate(timeout=END_WITHIN)
    except subprocess.TimeoutExpired:
        checks.that(False, f"{what}: no end after {END_WITHIN} s")
        return
    finally:
        job.end(process)
    at = newest_step(directory)
    checks.that(process.returncode == 0, f"{what}: status {process.returncode}\n{messages}")
    if not checks.that(5 < at < STEPS and steps_of(directory) == [at], f"{what}: checkpoints {steps_of(directory)}"):
        return
    end = at + 10
    result = all_jobs.run(config, trainers, owners, "resume=", f"steps={end}")
    whole = all_jobs.run(all_jobs.config(f"{name}-whole", mode, every=0), trainers, owners, f"steps={end}")
    checks.that(result.returncode == 0 and whole.returncode == 0, f"{what}: {result} {whole}")
    mine = jobs.tensors(jobs.checkpoint(directory, end))
    expected = jobs.tensors(jobs.checkpoint(all_jobs.directory / f"{name}-whole", end))
    different = [key for key in expected if key not in mine or mine[key].tobytes() != expected[key].tobytes()]
    checks.that(not different and len(mine) == len(expected), f"{what}: other bits: {different}")


def by_time(all_jobs):
    """Every 0.02 minutes: no checkpoint before that, one for as many times as it passed, give or take the last one."""
    directory = all_jobs.directory / "time"
    config = all_jobs.config("time", "service", every=0, keep=0, policy="minutes: 0.02")
    begin = time.monotonic()
    result = all_jobs.run(config, 1, 1, "steps=80", "pause=50", "own=0")
    passed = (time.monotonic() - begin) / 1.2
    found = steps_of(directory)
    checks.that(result.returncode == 0 and 2 <= len(found) <= passed, f"by time: {found} in {passed} intervals: {result}")
    checks.that(all(b - a <= 24 for a, b in zip(found, found[1:])), f"by time: 24 steps take at least 1.2 s: {found}")


def at_the_end(all_jobs):
    """Of the schedule: the last step's checkpoint is due, and no other."""
    config = all_jobs.config("end", "service", every=0, keep=0, head="schedule: {kind: linear, steps: 7}\n")
    result = all_jobs.run(config, 1, 1, "steps=7", "own=0")
    found = steps_of(all_jobs.directory / "end")
    checks.that(result.returncode == 0 and found == [7], f"at the end: {found}: {result}")


def metrics(runs, name):
    file = runs / name / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def lives(process):
    """Whether it runs: what is no more than an entry for its parent has no command line."""
    try:
        return pathlib.Path(f"/proc/{process}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False


def launcher(runs):
    """A signal to the launcher, or to its process group as a terminal sends it (twice when it is closed): a checkpoint of
    the last step, how to go on, and no process is left. A second signal does not wait for that. If the checkpoint cannot be
    written, that is the end's status."""
    cases = [("term", signal.SIGTERM, os.kill, 143, 1), ("int", signal.SIGINT, os.killpg, 130, 1),
             ("usr1", signal.SIGUSR1, os.kill, 138, 1), ("twice", signal.SIGTERM, os.kill, 143, 2),
             ("hangup", signal.SIGHUP, os.killpg, 143, 2), ("unwritable", signal.SIGTERM, os.kill, 3, 1)]
    for name, number, send, status, times in cases:
        what = f"pretrain.sh, {name}"
        process = job.start([PRETRAIN, "--runs", runs, "--name", name, *TINY, "--trainers", "2", "--owners", "1",
                             "--steps", "5000"])
        try:
            wait_for(lambda: metrics(runs, name) > 6, what)
            if name == "unwritable":
                shutil.rmtree(runs / name / "checkpoints")
                (runs / name / "checkpoints").touch()
            below = job.descendants(process.pid)
            checks.that(len(below) >= 4, f"{what}: mpirun and three ranks: {below}")
            for _ in range(times):
                send(process.pid, number)
                time.sleep(0.05)
            _, messages = process.communicate(timeout=END_WITHIN)
            checks.that(process.returncode == status, f"{what}: status {process.returncode}, not {status}\n{messages}")
            checks.that(("interrupted; continue with" in messages) == (status > 128), f"{what}: how to go on\n{messages}")
            if name not in ("twice", "unwritable"):
                checks.that(newest_step(runs / name / "checkpoints") == metrics(runs, name),
                            f"{what}: {steps_of(runs / name / 'checkpoints')}, {metrics(runs, name)} steps\n{messages}")
            # A second signal makes mpirun leave at once; its ranks notice that and follow.
            wait_for(lambda: not any(lives(rank) for rank, _ in below), f"{what}: processes are left", seconds=5)
        except subprocess.TimeoutExpired:
            checks.that(False, f"{what}: no end after {END_WITHIN} s")
        finally:
            job.end(process)


with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
    all_jobs = Jobs(scratch, None)
    all_jobs.trainer = all_jobs.c_trainer()
    parts = [pool.submit(launcher, pathlib.Path(scratch) / "runs"),
             # trainers, owners, signal, rank
             pool.submit(signalled, all_jobs, "mpirun", 2, 1, signal.SIGUSR1, None),
             pool.submit(signalled, all_jobs, "service", 2, 2, signal.SIGTERM, 3),
             pool.submit(signalled, all_jobs, "embedded", 3, 0, signal.SIGTERM, 1),
             pool.submit(by_time, all_jobs), pool.submit(at_the_end, all_jobs)]
    for part in parts:
        part.result()
sys.exit(checks.failed > 0)
