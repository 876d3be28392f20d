"""Restarts: on the same numbers of ranks the same bits as without interruption, on others nearly the same weights; and
what is in a checkpoint does not depend on the ranks that wrote it."""
import concurrent.futures
import pathlib
import shutil
import sys
import tempfile

import h5py
import numpy as np

import jobs
from jobs import Jobs, job

checks = job.Checks()
CUT, END = 10, 30  # steps: 20 further ones after the restart


def distance(a, b):
    """max|a - b| / max|b|. Not norm-wise, where a wrong row of a large tensor would drown; nor element by element,
    where elements near zero have no relative accuracy."""
    return np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)


def same_bits(mine, expected, what):
    different = [name for name in expected if name not in mine or not np.array_equal(mine[name], expected[name])]
    checks.that(not different and len(mine) == len(expected), f"{what}: other bits: {different}")


def nearly(mine, expected, limit, what):
    for name in expected:
        if name.endswith("/weight"):
            checks.at_most(distance(mine[name], expected[name]), limit, f"{what}: {name}")


def restart(all_jobs, cut, what, ranks, end=END):
    """Copy the directory of a cut job, continue there on other ranks; the tensors at the end."""
    mode = "service" if ranks[1] else "embedded"
    name = f"{cut}-{what}"
    shutil.copytree(all_jobs.directory / cut, all_jobs.directory / name, symlinks=True)
    result = all_jobs.run(all_jobs.config(name, mode, every=CUT), *ranks, "resume=", f"steps={end}")
    first = result.stdout.split("\n")[0].strip()
    checks.that(result.returncode == 0 and first == f"step {CUT}", f"{name}: {result}")
    return jobs.tensors(jobs.checkpoint(all_jobs.directory / name, end))


def whole_and_cut(all_jobs, name, ranks, end=END):
    """The tensors at the end of a job that nobody interrupts; and the directory of one that ends at CUT."""
    mode = "service" if ranks[1] else "embedded"
    for directory, steps in ((f"{name}-whole", end), (name, CUT)):
        result = all_jobs.run(all_jobs.config(directory, mode, every=CUT), *ranks, f"steps={steps}")
        checks.that(result.returncode == 0, f"{directory}: {result}")
    return jobs.tensors(jobs.checkpoint(all_jobs.directory / f"{name}-whole", end))


def restarts(all_jobs, name, ranks, others, end=END):
    whole = whole_and_cut(all_jobs, name, ranks, end=end)
    same_bits(restart(all_jobs, name, "same", ranks, end=end), whole, f"{name}: the same ranks {ranks}")
    for number, other in enumerate(others):
        nearly(restart(all_jobs, name, f"other-{number}", other, end=end), whole, 1e-4,
               f"{name}: on {ranks}, then on {other} trainers and owners")


def damage(file):
    """Another bit in a tensor's values."""
    with h5py.File(file, "r") as checkpoint:
        tensor = next(item[key] for item in checkpoint["parameters"].values() for key in item if key != "weight")
        place = tensor.id.get_offset() + tensor.id.get_storage_size() // 2
    with open(file, "r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ 4]))


def falls_back(all_jobs, name, ranks):
    """A directory whose newest checkpoint is damaged: the older one, loudly, to the same bits; if that one is damaged as
    well, or a damaged file is asked for by its name, the status of damage."""
    whole = whole_and_cut(all_jobs, name, ranks)
    directory = all_jobs.directory / f"{name}-whole"
    mode = "service" if ranks[1] else "embedded"
    config = all_jobs.config(f"{name}-whole", mode, every=CUT)
    damage(jobs.checkpoint(directory, END))
    asked = all_jobs.run(config, *ranks, f"resume={jobs.checkpoint(directory, END)}", f"steps={END}")
    checks.that(asked.returncode == 4, f"{name}: a damaged file by its name: {asked}")
    result = all_jobs.run(config, *ranks, "resume=", f"steps={END}")
    first = result.stdout.split("\n")[0].strip()
    checks.that(result.returncode == 0 and first == f"step {END - CUT}", f"{name}: beside a damaged one: {result}")
    checks.that(result.stderr.count("DAMAGED") == 1, f"{name}: said once: {result.stderr}")
    same_bits(jobs.tensors(jobs.checkpoint(directory, END)), whole, f"{name}: beside a damaged one")
    for step in range(CUT, END + 1, CUT):
        damage(jobs.checkpoint(directory, step))
    nothing = all_jobs.run(config, *ranks, "resume=", f"steps={END}")
    checks.that(nothing.returncode == 4, f"{name}: all damaged: {nothing}")


def record(path):
    """Gradients for tensors of many shapes and of every rule that keeps state."""
    random = np.random.default_rng(5)
    shapes = {"model.embed_tokens.weight": (37, 12), "lm_head.weight": (41, 12), "layers.0.self_attn.q_proj.weight": (24, 12),
              "layers.0.mlp.up_proj.weight": (30, 12), "layers.0.mlp.down_proj.weight": (12, 31), "norm.weight": (12,),
              "bias": (1,), "scale": (), "large.weight": (300, 700)}
    with h5py.File(path, "w") as file:
        for name, shape in shapes.items():
            file[f"parameters/{name}/weight"] = random.standard_normal(shape).astype(np.float32)
            for t in range(3):
                file[f"gradients/{t}/{name}"] = random.standard_normal(shape).astype(np.float32)


def written_by_any_ranks(directory):
    """The form of a checkpoint is the same for any ranks, all its bytes but those that hold computed numbers; and where
    a matrix lies on one rank, whichever that is, so do the numbers."""
    record(directory / "gradients.h5")
    groups = jobs.GROUPS.replace("groups:\n", "")
    configs = {"alone": "groups:\n" + groups.replace("lr:", "grid: 1x1, lr:"), "planned": "groups:\n" + groups}
    for name, text in configs.items():
        config = directory / f"{name}.yaml"
        config.write_text(text)
        files = {}
        for ranks in (1, 2, 3, 5) if job.EVERYTHING else (1, 2, 3):
            files[ranks] = directory / f"{name}-{ranks}.h5"
            result = job.run((ranks, job.COMMAND, "replay", "--config", config, "--gradients", directory / "gradients.h5",
                              "--output", files[ranks]))
            if not checks.that(result.returncode == 0, f"replay on {ranks} ranks, {name}: {result}"):
                return
        first = jobs.without_created(files[1])
        for ranks in list(files)[1:]:
            checks.that(jobs.without_created(files[ranks]) == first,
                        f"{name}: written by {ranks} ranks, the bytes are those written by one")
    with h5py.File(files[1], "r") as file:
        checks.that(len(file["parameters"]) == 9 and file.attrs["step"] == 3, "nine parameters, three steps")


def split_matrices(directory):
    """Matrices on several ranks: the same names, shapes, attributes and places in the file; numbers differ by rounding
    of sums in another order."""
    layouts = {}
    for ranks, grid in ((1, "1x1"), (2, "2x1"), (4, "2x2")):
        config, output = directory / f"{grid}.yaml", directory / f"{grid}.h5"
        config.write_text(jobs.GROUPS.replace("lr:", f"grid: {grid}, block: [8, 8], lr:"))
        result = job.run((ranks, job.COMMAND, "replay", "--config", config, "--gradients", directory / "gradients.h5",
                          "--output", output))
        if not checks.that(result.returncode == 0, f"replay on a grid of {grid}: {result}"):
            return
        with h5py.File(output, "r") as file:
            layouts[grid] = []
            file["parameters"].visititems(lambda path, item, found=layouts[grid]: found.append(
                (path, sorted((key, str(value)) for key, value in item.attrs.items()),
                 (item.shape, item.id.get_offset()) if isinstance(item, h5py.Dataset) else None)))
        nearly(jobs.tensors(output), jobs.tensors(directory / "1x1.h5"), 1e-5, f"a grid of {grid}")
    for grid in layouts:
        same = [(a, b) for a, b in zip(layouts["1x1"], layouts[grid]) if a != b]
        checks.that(not same and len(layouts[grid]) == len(layouts["1x1"]), f"{grid}: another form: {same}")


def replays(directory):
    written_by_any_ranks(directory)
    split_matrices(directory)


# Small jobs mostly wait for MPI to start and to end: two at a time.
with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(2) as pool:
    for part in "c", "python", "replay":
        (pathlib.Path(scratch) / part).mkdir()
    c_jobs = Jobs(pathlib.Path(scratch) / "c", None)
    c_jobs.trainer = c_jobs.c_trainer()
    python_jobs = Jobs(pathlib.Path(scratch) / "python", jobs.python_trainer())
    # (trainers, owners); no owners: embedded
    parts = [pool.submit(restarts, python_jobs, "service", (2, 1), [(3, 0)]),
             pool.submit(restarts, c_jobs, "service", (2, 2), [(1, 1), (3, 1), (2, 3), (4, 0)]),
             pool.submit(restarts, c_jobs, "embedded", (3, 0), [(1, 0), (4, 0), (1, 3)]),
             pool.submit(falls_back, c_jobs, "damaged", (2, 2)),
             pool.submit(replays, pathlib.Path(scratch) / "replay")]
    if job.EVERYTHING:
        parts += [pool.submit(restarts, python_jobs, "wide", (2, 3), [(1, 1), (3, 2), (2, 0)]),
                  pool.submit(restarts, python_jobs, "embedded", (2, 0), [(1, 2), (3, 0)])]
    for part in parts:
        part.result()
sys.exit(checks.failed > 0)
