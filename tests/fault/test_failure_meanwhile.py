"""A job that fails for a reason of its own while a checkpoint is on its way: the checkpoint is finished all the same, in
service mode and embedded."""
import concurrent.futures
import pathlib
import sys
import tempfile

import calls
import jobs
from jobs import Jobs, job

EVERY = 2
checks = job.Checks()

# name -> (head of the configuration, arguments of the trainers, status, message)
REASONS = {
    "a gradient": ("", ["nan=2"], 1, "is not finite"),
    "after the updates": ("metrics: {path: /dev/full, every: 3}\n", [], 3, "/dev/full: No space left on device"),
}


def fails(all_jobs, library, number, ranks, reason):
    mode, what = "service" if ranks[1] else "embedded", f"{ranks}, {reason}"
    head, arguments, status, message = REASONS[reason]
    name = f"meanwhile-{number}"
    directory = all_jobs.directory / name
    config = all_jobs.config(name, mode, every=EVERY, head=head)
    slow = {owner: calls.watched(library, all_jobs.directory / f"{name}-{owner}.calls", directory,
                                 [calls.every("fsync", "wait")]) for owner in range(ranks[1] or ranks[0])}
    result = job.run(*all_jobs.programs(config, *ranks, "steps=8", *arguments, before=slow))
    checks.that(result.returncode == status and message in result.stderr, f"{what}: the end: {result}")
    left = sorted(path.name for path in directory.iterdir())
    checks.that(left == ["latest", f"step-{EVERY:08d}.h5"], f"{what}: there is {left}")


with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
    all_jobs = Jobs(pathlib.Path(scratch).resolve(), None)
    all_jobs.trainer = all_jobs.c_trainer()
    library = calls.preloaded(scratch)
    cases = [(ranks, reason) for ranks in ((1, 2), (2, 0)) for reason in REASONS]
    for part in [pool.submit(fails, all_jobs, library, number, *case) for number, case in enumerate(cases)]:
        part.result()
sys.exit(checks.failed > 0)
