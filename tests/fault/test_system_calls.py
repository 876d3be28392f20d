"""A checkpoint is there whole or not at all, whatever call to the system fails or is the last of its rank.

A job writes checkpoints at the steps 2, 4 and 6 and keeps one. In the second save (the first too in the full selection)
one call of an owner that writes the directory fails (ENOSPC, EIO), is interrupted, or is where the rank is killed. Then
the job has ended with a message; a restart takes the checkpoint of before the fault or the one that was being written, each
to the bit what a job without faults has, and goes on from it to the same end.
"""
import collections
import concurrent.futures
import os
import pathlib
import re
import sys
import tempfile

import jobs
from bench import Bench
from jobs import job

EVERY, END = 2, 6
ERRORS = {"ENOSPC": "No space left on device", "EIO": "Input/output error"}
REPEATED = ("open", "ftruncate", "fallocate", "pwrite", "fsync")  # after an interruption
ALLOCATING = ("mkdir", "open", "ftruncate", "fallocate", "pwrite", "fsync", "rename", "symlink")  # may say ENOSPC
checks = job.Checks()


def disturbances(call):
    """What may happen at a call."""
    if call.reads:
        return ["EIO"]
    return (["kill", "EIO"] + ["ENOSPC"] * (call.name in ALLOCATING)
            + ["EINTR"] * (call.name in REPEATED and call.phase == "write"))


def selected(found):
    """(call, disturbance): the last call of every kind in the second save; or every one of that save, and of every kind in
    the first."""
    second = [call for call in found if call.save == 2]
    if job.EVERYTHING:
        chosen = [*{call.kind: call for call in found if call.save == 1}.values(), *second]
    else:
        chosen = {call.kind: call for call in second}.values()
    return [(call, what) for call in chosen for what in disturbances(call)]


def harmless(call, disturbance):
    """A failure that costs nothing: of removing what is not there or is not needed any more, of a close behind a flush."""
    return (disturbance == "EINTR" or call.phase == "prune" or (call.phase == "prepare" and call.name == "unlink")
            or (call.name == "close" and call.flushed))


def committed(call, found):
    """Whether a restart takes the new checkpoint when a rank gets as far as this call, but not through it: `latest` was
    moved, or there is only this one and it has its name."""
    phase = "link" if call.save > 1 else "name"
    return any((one.save, one.phase, one.name) == (call.save, phase, "rename") for one in found[:found.index(call)])


def in_order(bench, watched):
    """What no crash of one machine can show: flushes between the steps of a save that a file system is free to reorder,
    and every owner's own flush, which counts where owners are on several machines."""
    for owner, found in enumerate(watched):
        closes = [call.flushed for call in found if call.save == 2 and call.name == "close" and call.phase == "write"]
        checks.that(closes and closes[-1], f"{bench.name}: owner {owner} leaves something that it has not flushed")
    first = [(call.name, call.path.name) for call in watched[0] if call.save == 1 and not call.reads]
    made = first.index(("mkdir", "watched"))
    checks.that(first[made + 1] == ("fsync", bench.directory.name), f"{bench.name}: the directory is made, then {first[made:]}")
    names = [call.name for call in watched[0] if call.save == 2 and not call.reads]
    expected = ["fsync", "pwrite", "fsync", "rename", "fsync",  # data, signature, name
                "symlink", "rename", "fsync",  # `latest`
                "rename", "fsync", "unlink"]  # the old one
    checks.that(names[-len(expected):] == expected, f"{bench.name}: the first owner's calls end with {names[-20:]}")


WRITES = ("open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,truncate,ftruncate,fallocate,fsync,fdatasync,"
          "sync_file_range,mmap,copy_file_range,sendfile,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,"
          "unlinkat,mkdir,mkdirat,rmdir")


def none_escapes(bench):
    """The calls that are seen are those that strace sees."""
    name, log = "escapes", bench.directory / "escapes.strace"
    before = bench.watcher(name, 0)
    before[0][:0] = ["strace", "-f", "-q", "-y", "-o", log, "-e", f"trace={WRITES}"]
    result = job.run(*bench.programs(name, before=before))
    if "PTRACE" in result.stderr:
        print("no process can be traced here: whether all calls are seen is not tested")
        return
    names = {"openat": "open", "pwrite64": "pwrite", "opendir": "open"}
    traced = re.findall(rf'^\d+ +(\w+)\(.*{bench.directory / name}[">/]', log.read_text(), re.MULTILINE)
    seen = [call.name for call in bench.calls(name, 0) if call.name != "close" and call.path != bench.directory]
    counts = [collections.Counter(names.get(one, one) for one in found) for found in (traced, seen)]
    checks.that(result.returncode == 0 and counts[0] == counts[1] and seen,
                f"{bench.name}: strace and the library see {counts[0]} and {counts[1]}: {result}")


def disturb(bench, number, owner, call, disturbance):
    name, what = f"fault-{number}", f"{bench.name}, owner {owner}: {disturbance} at {call}"
    directory = bench.directory / name
    result = job.run(*bench.programs(name, before=bench.watcher(name, owner, call.but(disturbance))),
                     OMPI_MCA_odls_base_sigkill_timeout="0")
    found = bench.calls(name, owner)
    hit = next((one for one in found if one.disturbed), None)
    if not checks.that(hit and (hit.name, hit.save, hit.phase) == (call.name, call.save, call.phase),
                       f"{what}: not reached, but {hit}: {result}"):
        return
    step = EVERY * hit.save if committed(hit, found) else EVERY * (hit.save - 1)
    if disturbance == "kill":
        checks.that(result.returncode == 137 and "signal 9" in result.stderr, f"{what}: the end: {result}")
    elif harmless(hit, disturbance):
        step = END
        said = result.stderr.count("equishard: ") == (hit.phase == "prune" and hit.name != "close")
        checks.that(result.returncode == 0 and said, f"{what}: the job goes on: {result}")
    else:
        named = directory.parent if hit.path == directory.parent else directory
        bench.one_message(result, what, str(named), ERRORS[disturbance])
        partial = list(directory.glob("*.partial"))
        checks.that(not partial, f"{what}: what was written is removed, but there is {partial}")
    bench.is_at(directory, step, what)
    if job.EVERYTHING or number % 4 == 0:
        bench.goes_on(name, step, what)
        left = sorted(os.listdir(directory))
        checks.that(left == [".lock", "latest", f"step-{END:08d}.h5"], f"{what}: after the restart there is {left}")


def main(scratch):
    # Small jobs mostly wait for MPI to start and to end: two at a time.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        parts = []
        for number, writing in enumerate(jobs.WRITING):
            for ranks in [(1, 2), (2, 0)] if job.EVERYTHING else [(1, 2)]:
                bench = Bench(checks, scratch / f"{writing}-{ranks[1]}", ranks, writing, EVERY, END)
                watched = bench.calls_undisturbed()
                in_order(bench, watched)
                parts.append(pool.submit(none_escapes, bench))
                faults = [(owner, *fault) for owner, found in enumerate(watched) for fault in selected(found)]
                if number > 0 and not job.EVERYTHING:
                    faults = faults[::5]  # what follows the data is the same code
                parts += [pool.submit(disturb, bench, count, *fault) for count, fault in enumerate(faults)]
        print(f"{len(parts)} jobs")
        for part in parts:
            part.result()


with tempfile.TemporaryDirectory() as name:
    main(pathlib.Path(name).resolve())
sys.exit(checks.failed > 0)
