"""A job that fails for a reason of its own while a checkpoint is on its way: the checkpoint is finished all the same, in
service mode and embedded; if it has failed too, both are told."""
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


def disturbed(all_jobs, library, name, ranks, head, arguments, disturbances):
    """A job in which the calls of some owners on its checkpoints are disturbed; its end, and what is in the directory."""
    directory = all_jobs.directory / name
    config = all_jobs.config(name, "service" if ranks[1] else "embedded", every=EVERY, head=head)
    before = {owner: calls.watched(library, all_jobs.directory / f"{name}-{owner}.calls", directory, [words])
              for owner, words in disturbances.items()}
    result = job.run(*all_jobs.programs(config, *ranks, "steps=8", *arguments, before=before))
    return result, sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def fails(all_jobs, library, number, ranks, reason):
    what, (head, arguments, status, message) = f"{ranks}, {reason}", REASONS[reason]
    slow = {owner: calls.every("fsync", "wait") for owner in range(ranks[1] or ranks[0])}
    result, left = disturbed(all_jobs, library, f"meanwhile-{number}", ranks, head, arguments, slow)
    checks.that(result.returncode == status and message in result.stderr, f"{what}: the end: {result}")
    checks.that(left == ["latest", f"step-{EVERY:08d}.h5"], f"{what}: there is {left}")


def both_fail(all_jobs, library, owner, call):
    """An owner's part of the checkpoint fails before the step does."""
    what = f"{call} of owner {owner} fails"
    result, left = disturbed(all_jobs, library, f"both-{owner}", (1, 2), "", ["nan=2", "pause=200"],
                             {owner: calls.every(call, "EIO")})
    told = [text in result.stderr for text in ("could not be written in the background: ", "Input/output error", "is not finite")]
    checks.that(result.returncode == 1 and all(told), f"{what}: told {told}: {result}")
    checks.that(left == [], f"{what}: there is {left}")


with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
    all_jobs = Jobs(pathlib.Path(scratch).resolve(), None)
    all_jobs.trainer = all_jobs.c_trainer()
    library = calls.preloaded(scratch)
    cases = [(ranks, reason) for ranks in ((1, 2), (2, 0)) for reason in REASONS]
    parts = [pool.submit(fails, all_jobs, library, number, *case) for number, case in enumerate(cases)]
    parts += [pool.submit(both_fail, all_jobs, library, *case) for case in ((0, "rename"), (1, "fsync"))]
    for part in parts:
        part.result()
sys.exit(checks.failed > 0)
