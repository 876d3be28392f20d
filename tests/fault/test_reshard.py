"""A job written on some owners and resumed on others, on other grids and in other blocks, restores the same bits: a
restarted job that takes no step writes the tensors, step counts and trainer's data that it was given."""
import concurrent.futures
import pathlib
import sys
import tempfile

import h5py

import jobs
from jobs import Jobs, job

checks = job.Checks()
STEP = 4

# For so many owners, the grids and blocks of the parameter groups, in their order. Some owners have no part in some grids;
# where a block is as large as the matrix, all shards of a grid but one are empty.
LAYOUTS = {
    1: [("1x1", 1), ("1x1", 64), ("1x1", 3)],
    2: [("2x1", 3), ("1x2", 1), ("1x1", 64)],
    3: [("1x3", 64), ("3x1", 3), ("1x2", 1)],
    4: [("2x2", 3), ("4x1", 1), ("1x4", 64)],
    6: [("3x2", 1), ("2x3", 3), ("6x1", 64), ("1x6", 3)],
}
COUNTS = sorted(LAYOUTS)
PAIRS = [(w, r) for w in COUNTS for r in COUNTS] if job.EVERYTHING else [(1, 6), (6, 1), (2, 3), (4, 6), (6, 4), (3, 3)]


def groups(owners):
    head, *rest = jobs.GROUPS.splitlines()
    layouts = LAYOUTS[owners]
    return "\n".join([head, *(line.replace("lr:", "grid: %s, block: %d, lr:" % layouts[i % len(layouts)])
                              for i, line in enumerate(rest))]) + "\n"


def contents(file):
    """All that a restart brings back: tensors as bytes, step counts, the trainer's data."""
    with h5py.File(file, "r") as opened:
        found = {"step": int(opened.attrs["step"]), "skipped": int(opened.attrs["skipped"])}
        found.update({f"trainer/{key}": item[()].tobytes() for key, item in opened["trainer"].items()})
        for name, group in opened["parameters"].items():
            found[f"{name} step"] = int(group.attrs["step"])
            found.update({f"{name}/{tensor}": (values.shape, values[()].tobytes()) for tensor, values in group.items()})
    return found


def write(all_jobs, name, owners, *arguments):
    """A job to STEP; its last checkpoint. A restart on an even number of owners has them train as well."""
    mode, ranks = ("embedded", (owners, 0)) if arguments and owners % 2 == 0 else ("service", (1, owners))
    config = all_jobs.config(name, mode, groups=groups(owners))
    result = all_jobs.run(config, *ranks, f"steps={STEP}", *arguments)
    checks.that(result.returncode == 0, f"{name}: {result}")
    return jobs.checkpoint(all_jobs.directory / name, STEP)


def reshard(all_jobs, files, writers, readers):
    expected = contents(files[writers])
    restored = contents(write(all_jobs, f"{writers}-to-{readers}", readers, f"resume={files[writers]}"))
    different = [key for key in expected.keys() | restored.keys() if expected.get(key) != restored.get(key)]
    checks.that(not different, f"written on {writers}, resumed on {readers} owners: differs: {sorted(different)}")
    checks.that(len(expected) == 2 + 2 + 6 + 2 * 5 + 3, f"all is compared: {sorted(expected)}")


with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
    jobs_here = Jobs(scratch, None)
    jobs_here.trainer = jobs_here.c_trainer()
    written = {w: pool.submit(write, jobs_here, f"written-{w}", w) for w in sorted({w for w, _ in PAIRS})}
    files_written = {w: file.result() for w, file in written.items()}
    for part in [pool.submit(reshard, jobs_here, files_written, w, r) for w, r in PAIRS]:
        part.result()
sys.exit(checks.failed > 0)
