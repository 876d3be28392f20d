"""The power fails: what a job has called committed is on the disk, and what it has not is whole or not there.

The checkpoints are on an ext4 of their own. An owner stops behind one of its system calls, the file system is shut down
as it is, without what is only in memory, the job is killed; then the file system is mounted again and replays its
journal. Behind the flush of the directory in which `latest` was moved, the new checkpoint is there; before it, that one
or the one before. Each time a restart goes on from there to the bits of a job that nothing happens to.

That the test can see a loss is shown by flushes that only say that they were done. On one machine one flush of a file
flushes what all owners have written to it; that each owner has its own matters where they are on several.
"""
import concurrent.futures
import time

import calls
import disks
import jobs
from bench import Bench
from jobs import job

EVERY, END = 2, 6
checks = job.Checks()


def stop_and_cut(bench, disk, directory, owner, *disturbances):
    """Run a job until one of its owners has stopped, and have the power fail there. disturbances: the stop is the last."""
    name = disk.directory.name
    before = bench.watcher(name, owner, *disturbances, directory=directory)
    number = int(disturbances[-1].partition(":")[0])
    process = job.start(job.launch_line(*bench.programs(name, directory=directory, before=before)))
    end, stopped = time.monotonic() + 60, False
    try:
        while not stopped and process.poll() is None and time.monotonic() < end:
            stopped = any(call.number == number for call in bench.calls(name, owner))
            time.sleep(0.01)
        disk.cut()
    finally:
        job.end(process)
    disk.power_on()
    return stopped


def promised(call, found):
    """Whether the checkpoint of its save is committed when this call has returned."""
    return any(one.save == call.save and one.phase == "link" and one.name == "fsync"
               for one in found[:found.index(call) + 1])


def cut(bench, disk, what, owner, call):
    directory = disk.directory / "checkpoints"
    stopped = stop_and_cut(bench, disk, directory, owner, call.but("stop"))
    found = bench.calls(disk.directory.name, owner)
    hit = next((one for one in found if one.disturbed), None)
    if not checks.that(stopped and hit, f"{what}: the owner has not stopped there"):
        return
    step, new = jobs.newest(directory), EVERY * hit.save  # its file may be a write longer or shorter: names are in it
    allowed = [new] if promised(hit, found) else [new - EVERY, new]
    if not checks.that(step in allowed, f"{what}: the newest checkpoint is of step {step}, not one of {allowed}"):
        return
    bench.is_at(directory, step, what)
    bench.goes_on(disk.directory.name, step, what, directory=directory)


def is_lost(bench, disk, what, *flushes):
    """With flushes left out, a checkpoint that is called committed is not there after the cut."""
    directory, file = disk.directory / "checkpoints", jobs.checkpoint(disk.directory / "checkpoints", 2 * EVERY)
    usual = bench.undisturbed_calls[0]
    link = next(call for call in usual if call.save == 2 and call.phase == "link" and call.name == "fsync")
    behind = next(call for call in usual[usual.index(link):] if call.name == "close")
    stopped = stop_and_cut(bench, disk, directory, 0, *flushes, behind.but("stop"))
    verified = job.finish([job.COMMAND, "verify", file])
    there = jobs.newest(directory) == 2 * EVERY and verified.returncode == 0
    checks.that(stopped and not there, f"{what}: nothing is lost")


def flushes(bench):
    """(what is left out, the disturbance) in the second save of the first owner."""
    done = [call for call in bench.undisturbed_calls[0] if call.save == 2 and call.name == "fsync"]
    file, link = ([call for call in done if call.phase == phase] for phase in ("write", "link"))
    if not checks.that(file and link, f"{bench.name}: no flush of the file and of the directory"):
        return []
    return [("the last flush of the file", file[-1].but("skip")), ("the flush of the directory", link[0].but("skip")),
            ("every flush", calls.every("fsync", "skip"))]


def selected(found):
    """The calls of an owner behind which the power fails: all; or one of every kind in the second save."""
    writing = [call for call in found if not call.reads]
    if job.EVERYTHING:
        return [call for call in writing if call.save in (1, 2)]
    return list({call.kind: call for call in writing if call.save == 2}.values())


def on_disk(bench, name, test, *arguments):
    """Returns why it cannot be done here, or None."""
    try:
        with disks.ext4(bench.directory / name, 32 << 20) as disk:
            test(bench, disk, *arguments)
    except disks.Unavailable as unavailable:
        return str(unavailable)
    return None


def main(scratch):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        parts = []
        for number, writing in enumerate(jobs.WRITING):
            bench = Bench(checks, scratch / writing, (1, 2), writing, EVERY, END)
            bench.undisturbed_calls = bench.calls_undisturbed()
            few = number > 0 and not job.EVERYTHING  # what follows the data is the same code
            for what, flush in [] if few else flushes(bench):
                parts.append(pool.submit(on_disk, bench, f"control-{len(parts)}", is_lost,
                                         f"{bench.name}, without {what}", flush))
            for owner, found in enumerate(bench.undisturbed_calls):
                parts += [pool.submit(on_disk, bench, f"cut-{owner}-{count}", cut,
                                      f"{bench.name}, the power fails behind owner {owner}'s {call}", owner, call)
                          for count, call in enumerate(selected(found)[::4 if few else 1])]
        print(f"{len(parts)} cuts")
        unavailable = [reason for reason in (part.result() for part in parts) if reason]
    if unavailable:
        print(unavailable[0])
    return 1 if checks.failed else 77 if unavailable else 0


disks.run(main)
