"""A checkpoint is there whole or not at all, whatever call to the system fails or is the last of its rank.

A job writes checkpoints at the steps 2, 4 and 6 and keeps one. In the second save (the first too in the full selection)
one call of an owner that writes the directory fails (ENOSPC, EIO), is interrupted, or is where the rank is killed. Then
the job has ended with a message; the directory has the checkpoint of before the fault or the one that was being written,
to the bit what a job without faults has; and a restart goes on from it to the same end.
"""
import concurrent.futures
import os
import pathlib
import sys
import tempfile

import calls
import jobs
from jobs import Jobs, job

EVERY, STEPS = 2, (2, 4, 6)
END = STEPS[-1]
ERRORS = {"ENOSPC": "No space left on device", "EIO": "Input/output error"}
KILL = "signal=SIGKILL"
REPEATED = ("openat", "ftruncate", "fallocate", "pwrite64", "fsync")  # after an interruption
INTERRUPT = "error=EINTR"
ALLOCATING = ("mkdir", "openat", "ftruncate", "fallocate", "pwrite64", "fsync", "rename", "symlink")  # may say ENOSPC
checks = job.Checks()


class Bench:
    """One kind of job: how ranks are started, and the checkpoints of one that nothing happens to.

    owners  0: embedded, on two ranks
    """

    def __init__(self, directory, owners, writing):
        self.all_jobs = Jobs(directory, None)
        self.all_jobs.trainer = self.all_jobs.c_trainer()
        self.mode, self.owners = "service" if owners else "embedded", owners
        self.writing, self.name = writing, f"{'service' if owners else 'embedded'}, {writing}"
        self.whole = directory / "whole"
        result = job.run(*self.programs("whole", keep=0), timeout=60)
        checks.that(result.returncode == 0, f"{self.name}: a job without faults: {result}")

    def programs(self, name, *arguments, keep=1, tracers=None):
        """The programs of a job that writes to the directory of this name. tracers: owner -> words before its command."""
        config = self.all_jobs.config(name, self.mode, every=EVERY, keep=keep, writing=jobs.WRITING[self.writing])
        trainer, tracers = [*self.all_jobs.trainer, config, f"steps={END}", *arguments], tracers or {}
        if not self.owners:
            return [(1, *tracers.get(rank, []), *trainer) for rank in range(2)]
        return [(1, *trainer)] + [(1, *tracers.get(owner, []), job.COMMAND, "serve") for owner in range(self.owners)]

    def tracer(self, name, owner, *disturbances):
        directory = self.all_jobs.directory / name
        return calls.traced(self.log(name, owner), directory, STEPS, disturbances)

    def log(self, name, owner):
        return self.all_jobs.directory / f"{name}-{owner}.strace"

    def calls(self, name, owner):
        return calls.calls(self.log(name, owner), self.all_jobs.directory / name, EVERY)

    def enumerate(self):
        """The calls of every owner in a job without faults."""
        owners = range(self.owners or 2)
        result = job.run(*self.programs("traced", tracers={owner: self.tracer("traced", owner) for owner in owners}))
        checks.that(result.returncode == 0, f"{self.name}: a traced job: {result}")
        return [self.calls("traced", owner) for owner in owners]


def kind(call):
    """Calls of the same kind do the same thing to the same thing."""
    what = call.path.name.replace(f"{EVERY * call.save:08d}", "new")
    return call.phase, call.name, "O_CREAT" in call.text, what


def disturbances(call):
    """What may happen at a call."""
    # There is nothing that a look at the directory, or closing it, could do to it.
    reads = call.name == "close" or (call.name == "openat" and "O_DIRECTORY" in call.text)
    if reads:
        return ["error=EIO"]
    return ([KILL, "error=EIO"] + ["error=ENOSPC"] * (call.name in ALLOCATING)
            + [INTERRUPT] * (call.name in REPEATED and call.phase == "write"))


def selected(found):
    """(call, disturbance): all; or the last call of every kind in the second save."""
    if job.EVERYTHING:
        return [(call, what) for call in found if call.save in (1, 2) for what in disturbances(call)]
    kinds = {kind(call): call for call in found if call.save == 2}
    return [(call, what) for call in kinds.values() for what in disturbances(call)]


def harmless(call, disturbance):
    """A failure that costs nothing: of removing what is not there or is not needed any more, of a close behind a flush."""
    return (disturbance == INTERRUPT or call.phase == "prune" or (call.phase == "prepare" and call.name == "unlink")
            or (call.name == "close" and call.flushed))


def committed(call, found):
    """Whether a rank that gets as far as this call, but not through it, has moved `latest`."""
    return any(one.save == call.save and one.phase == "link" and one.name == "rename" for one in found[:found.index(call)])


def restart_and_compare(bench, name, step, what):
    """Go on from the checkpoint of a step (None: begin) to the end."""
    directory = bench.all_jobs.directory / name
    result = job.run(*bench.programs(name, *(["resume="] if step else [])), timeout=60)
    first = result.stdout.split("\n")[0]
    checks.that(result.returncode == 0 and (first == f"step {step or 0}" or step == END),
                f"{what}: the restart from step {step}: {result}")
    left = sorted(os.listdir(directory))
    if checks.that(left == ["latest", f"step-{END:08d}.h5"], f"{what}: after the restart there is {left}"):
        different = jobs.differences(directory / "latest", jobs.checkpoint(bench.whole, END))
        checks.that(not different, f"{what}: other bits after the restart: {different}")


def is_at(bench, name, step, what):
    """A restart would take exactly the checkpoint of this step (None: there is none), and it is whole."""
    directory = bench.all_jobs.directory / name
    if step is None:
        result = job.finish([job.COMMAND, "verify", directory])
        checks.that(result.returncode == 3, f"{what}: there is no checkpoint yet: {result}")
        return
    latest = os.readlink(directory / "latest") if (directory / "latest").is_symlink() else None
    if not checks.that(latest == f"step-{step:08d}.h5", f"{what}: `latest` is {latest}, not of step {step}"):
        return
    different = jobs.differences(directory / latest, jobs.checkpoint(bench.whole, step))
    checks.that(not different, f"{what}: the checkpoint has other bits: {different}")
    result = job.finish([job.COMMAND, "verify", directory])
    checks.that(result.returncode == 0 and "whole" in result.stdout, f"{what}: verify: {result}")


def disturb(bench, number, owner, call, disturbance):
    name, what = f"fault-{number}", f"{bench.name}, owner {owner}: {disturbance} at {call}"
    directory = bench.all_jobs.directory / name
    result = job.run(*bench.programs(name, tracers={owner: bench.tracer(name, owner, call.at(disturbance))}))
    found = bench.calls(name, owner)
    hits = [one for one in found if "INJECTED" in one.text or (disturbance == KILL and one == found[-1])]
    if not checks.that(len(hits) == 1 and (hits[0].name, hits[0].number) == (call.name, call.number),
                       f"{what}: not reached, but {[str(hit) for hit in hits]}: {result}"):
        return
    hit, errors = hits[0], result.stderr.count("equishard: error: ")
    before = EVERY * (hit.save - 1) or None
    step = EVERY * hit.save if committed(hit, found) else before
    if disturbance == KILL:
        checks.that(result.returncode == 137 and "signal 9" in result.stderr, f"{what}: the end: {result}")
    elif harmless(hit, disturbance):
        step = END
        warned = result.stderr.count("equishard: warning: ") == (hit.phase == "prune" and hit.name != "close")
        checks.that(result.returncode == 0 and errors == 0 and warned, f"{what}: the job goes on: {result}")
    else:
        said = str(directory) in result.stderr and ERRORS[disturbance.partition("=")[2]] in result.stderr
        checks.that(result.returncode == 3 and errors == 1 and said, f"{what}: the message: {result}")
        partial = list(directory.glob("*.partial"))
        checks.that(not partial, f"{what}: what was written is removed, but there is {partial}")
    is_at(bench, name, step, what)
    if job.EVERYTHING or number % 4 == 0:
        restart_and_compare(bench, name, step, what)


def main(scratch):
    # Small jobs mostly wait for MPI to start and to end: two at a time.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        parts = []
        for writing in jobs.WRITING:
            for owners in (2, 0) if job.EVERYTHING else (2,):
                directory = scratch / f"{writing}-{owners}"
                directory.mkdir()
                bench = Bench(directory, owners, writing)
                faults = [(owner, *fault) for owner, found in enumerate(bench.enumerate()) for fault in selected(found)]
                parts += [pool.submit(disturb, bench, number, *fault) for number, fault in enumerate(faults)]
        print(f"{len(parts)} faults")
        for part in parts:
            part.result()


if not calls.available():
    print("no process can be traced here")
    sys.exit(77)
with tempfile.TemporaryDirectory() as name:
    main(pathlib.Path(name).resolve())
sys.exit(checks.failed > 0)
