"""Disks that are full, become read-only, go away, or do not let a file be removed. A job ends with status 3 and one
message that names the file; the checkpoints of before are as they were, nothing partial is left, and a restart goes on
once the disk is well, to the same bits."""
import concurrent.futures
import os
import subprocess
import time

import calls
import disks
import jobs
from bench import Bench
from jobs import job

EVERY, END = 2, 40
checks = job.Checks()


def entries(directory):
    return sorted(set(os.listdir(directory)) - {".lock", "ballast", "lost+found"})


def full(bench, disk, what, keep, refused=False):
    """Room for one checkpoint and a half. refused: space cannot be set aside before data is written."""
    name, directory, step = disk.directory.name, disk.directory, EVERY
    before = bench.watcher(name, 0, calls.every("fallocate", "EOPNOTSUPP")) if refused else None
    ballast = disk.fill(bench.undisturbed(step).stat().st_size * 3 // 2)
    result = job.run(*bench.programs(name, keep=keep, before=before))
    bench.one_message(result, what, f"{directory}/step-{2 * step:08d}.h5.partial: cannot "
                      f"{'write' if refused else 'reserve space'}: No space left on device")
    checks.that(entries(directory) == ["latest", f"step-{step:08d}.h5"], f"{what}: there is {entries(directory)}")
    bench.is_at(directory, step, what)
    ballast.unlink()
    bench.goes_on(name, step, what, keep=keep)


def in_mid_run(bench, disk, disturb, what, *texts):
    """Disturb a disk when a job has written two checkpoints; returns the job's directory."""
    directory = disk.directory / "checkpoints"
    process = job.start(job.launch_line(*bench.programs(disk.directory.name, "pause=100", directory=directory, keep=2)))
    try:
        end = time.monotonic() + 60
        while jobs.newest(directory) < 2 * EVERY and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        disturb()
        out, err = process.communicate(timeout=60)
    finally:
        job.end(process)
    result = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    bench.one_message(result, what, str(directory), *texts)
    return directory


def is_well(bench, disk, directory, what):
    """After a job in mid-run."""
    step = jobs.newest(directory)
    if checks.that(EVERY <= step < END, f"{what}: `latest` is of step {step}"):
        bench.is_at(directory, step, what)
        bench.goes_on(disk.directory.name, step, what, directory=directory, keep=2, end=min(step + 2 * EVERY, END))


def becomes_read_only(bench, disk, what):
    """As after an error of the file system: a lock that is held keeps an administrator from it."""
    directory = in_mid_run(bench, disk, lambda: disk.remount("abort"), what, "Read-only file system")
    disk.power_on()
    is_well(bench, disk, directory, what)


def goes_away(bench, disk, what):
    directory = in_mid_run(bench, disk, disk.cut, what, "Input/output error")
    disk.power_on()
    is_well(bench, disk, directory, what)


def keeps_a_file(bench, disk, what):
    """The oldest checkpoint cannot be removed: the job goes on, and says so at every save."""
    name, directory, oldest = disk.directory.name, disk.directory, jobs.checkpoint(disk.directory, EVERY)
    job.run(*bench.programs(name, end=EVERY))
    disks.command("chattr", "+i", oldest)
    result = job.run(*bench.programs(name, "resume=", end=3 * EVERY))
    warnings = result.stderr.count(f"equishard: warning: {oldest}: cannot remove: Operation not permitted")
    checks.that(result.returncode == 0 and warnings == 2, f"{what}: {result}")
    expected = [f"step-{step * EVERY:08d}.h5" for step in (1, 3)]
    checks.that(entries(directory) == ["latest", *expected], f"{what}: there is {entries(directory)}")
    disks.command("chattr", "-i", oldest)
    bench.goes_on(name, 3 * EVERY, what, end=4 * EVERY)
    checks.that(not oldest.exists(), f"{what}: it is removed when that can be done")


def memory(directory):
    return disks.memory(directory, 8 << 20)


def ext4(directory):
    return disks.ext4(directory, 32 << 20)


SELECTION = [("a full disk in memory, keep 1", memory, full, (1,)),
             ("a full disk, keep 3", ext4, full, (3,)),
             ("a full disk that cannot set space aside, keep 1", ext4, full, (1, True)),
             ("a disk that becomes read-only", ext4, becomes_read_only, ()),
             ("a disk that goes away", ext4, goes_away, ()),
             ("a file that cannot be removed", ext4, keeps_a_file, ())]
SLOW = [("a full disk in memory, keep 3", memory, full, (3,)),
        ("a full disk, keep 1", ext4, full, (1,)),
        ("a full disk in memory that cannot set space aside, keep 1", memory, full, (1, True))]


def on_disk(bench, number, what, make, test, arguments):
    """Returns why it cannot be done here, or None."""
    try:
        with make(bench.directory / f"disk-{number}") as disk:
            test(bench, disk, f"{bench.name}, {what}", *arguments)
    except disks.Unavailable as unavailable:
        return f"{what}: {unavailable}"
    return None


def main(scratch):
    selection = [*SELECTION, *(SLOW if job.EVERYTHING else [])]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        parts = []
        for number, writing in enumerate(jobs.WRITING):
            for ranks in (2, 2), (2, 0):
                few = (ranks[1] == 0 or number > 0) and not job.EVERYTHING
                bench = Bench(checks, scratch / f"{writing}-{ranks[1]}", ranks, writing, EVERY, END, "size=128")
                parts += [pool.submit(on_disk, bench, count, *one)
                          for count, one in enumerate(selection[:1] if few else selection)]
        left_out = [reason for reason in (part.result() for part in parts) if reason]
    for reason in left_out:
        print(f"skipped {reason}")
    return 1 if checks.failed else 77 if len(left_out) == len(parts) else 0


disks.run(main)
