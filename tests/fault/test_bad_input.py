"""Bad input ends a job on all ranks, soon, with one message of ours, the exit status that belongs to it, and every
checkpoint as it was. By the trainer in C in both modes; by the one in Python where Python has a part in it."""
import concurrent.futures
import pathlib
import shutil
import subprocess
import sys
import tempfile

import h5py

import jobs
from jobs import GROUPS, Jobs, job

checks = job.Checks()
OURS = "equishard: error: "


def ends(what, result, status, *texts):
    """The job ended with this status and said why in one message of ours with these texts ('a|b': one of them)."""
    lines = [line for line in result.stderr.splitlines() if OURS in line]
    good = (result.returncode == status and len(lines) == 1
            and all(any(one in lines[0] for one in text.split("|")) for text in texts))
    checks.that(good, f"{what}: status {result.returncode}, not {status}, or not one message with {texts}\n"
                f"{result.stderr}")


class Batch:
    """Jobs that do not depend on one another. mpirun waits a second for ranks that it ends: four jobs at a time."""

    def __init__(self, workers=4):
        self.pool = concurrent.futures.ThreadPoolExecutor(workers)
        self.cases = []

    def ends(self, what, programs, status, *texts, **environment):
        self.cases.append((what, self.pool.submit(job.run, *programs, timeout=90, **environment), status, texts))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pool.shutdown()
        for what, future, status, texts in self.cases:
            try:
                ends(what, future.result(), status, *texts)
            except subprocess.TimeoutExpired:
                checks.that(False, f"{what}: no end after 90 s")


def copy_of_kept(all_jobs):
    """The name of a directory with the good job's checkpoints: two jobs cannot have one at the same time."""
    copy = all_jobs.directory / f"kept-{len(list(all_jobs.directory.glob('kept-*')))}"
    shutil.copytree(all_jobs.directory / "kept", copy, symlinks=True)
    return copy.name


def as_they_were(all_jobs, before):
    return all(job.snapshot(path) == before for path in all_jobs.directory.glob("kept*") if path.is_dir())


def both_modes(trainers=2, owners=2):
    return [("service", trainers, owners), ("embedded", trainers + 1, 0)]


def wrong_configurations(batch, all_jobs, modes):
    """The configuration is refused: file and line are named, or the parameter."""
    unknown_key = GROUPS.replace("lr: 0.02, weight_decay", "lr: 0.02, weigth_decay")
    cases = {
        "unknown-key-in-group": (dict(groups=unknown_key), [":7:", "weigth_decay"]),
        "unknown-key": (dict(head="mood: good\n"), [":3:", "mood"]),
        "unknown-rule": (dict(groups=GROUPS.replace("rule: muon", "rule: moon")), [":7:", "moon"]),
        "unknown-layout": (dict(groups=GROUPS.replace("rule: muon", "rule: muon, layout: rows")), [":7:", "rows"]),
        "no-group": (dict(groups=GROUPS.replace("match: {}", "match: {ndim: 3}")), ["norm.weight|q_proj.bias"]),
        "rule-for-other-shapes": (dict(groups=GROUPS.replace("match: {}, rule: adamw", "match: {}, rule: muon")),
                                  [":10:", "norm.weight|q_proj.bias"]),
        "no-yaml": (dict(groups="groups: [\n"), []),
    }
    for what, (arguments, texts) in cases.items():
        for mode, trainers, owners in modes:
            config = all_jobs.config(f"{what}-{mode}", mode, **arguments)
            batch.ends(what, all_jobs.programs(config, trainers, owners), 2, f"{config}:", *texts)


def wrong_jobs(batch, all_jobs):
    """Ranks and configuration do not fit, or there is no configuration."""
    service, embedded = all_jobs.config("no-owner", "service"), all_jobs.config("owners", "embedded")
    batch.ends("service without owner", all_jobs.programs(service, 2, 0), 2, "no owner")
    batch.ends("embedded with owners", all_jobs.programs(embedded, 2, 1), 2, "mode is embedded")
    for ranks in 1, 2:
        batch.ends("owners only", [job.serve(ranks)], 2, "no trainer")
    missing = all_jobs.directory / "missing.yaml"
    for mode, trainers, owners in both_modes():
        batch.ends(f"no configuration, {mode}", all_jobs.programs(missing, trainers, owners), 3, str(missing))


def wrong_trainers(batch, all_jobs, modes):
    for mode, trainers, owners in modes:
        config = all_jobs.config(f"shapes-{mode}", mode, checkpoints=copy_of_kept(all_jobs))
        batch.ends(f"shapes, {mode}", all_jobs.programs(config, trainers, owners, "shape=1"), 2, "trainers disagree",
                   "q_proj.weight'", "shape [16, 15]|shape [15, 16]", "shape [16, 16]")
        config = all_jobs.config(f"model-{mode}", mode, checkpoints=copy_of_kept(all_jobs))
        batch.ends(f"another model, {mode}", all_jobs.programs(config, trainers, owners, "other=1", "resume="), 2,
                   "up_proj.weight", "k_proj.weight|embed_tokens.weight")


def gradients_not_finite(all_jobs, modes):
    for mode, trainers, owners in modes:
        config = all_jobs.config("not-finite", mode, checkpoints="kept")
        result = all_jobs.run(config, trainers, owners, "resume=", "steps=20", "nan=13")
        ends(f"not finite, {mode}", result, 1, "not finite", "mlp.up_proj.weight'|norm.weight'")
        checks.that("step 12" in result.stdout and "step 13" not in result.stdout, f"not finite, {mode}: at step 13\n"
                    f"{result.stdout}")
        config = all_jobs.config("skips", mode, checkpoints=f"skips-{mode}", head="on_nonfinite: skip\n")
        result = all_jobs.run(config, trainers, owners, "steps=12", "nan=7")
        checks.that(result.returncode == 0 and "step 7 skipped" in result.stdout and "step 11" in result.stdout
                    and OURS not in result.stderr and result.stderr.count("equishard: warning: ") == 1
                    and "skipped" in result.stderr, f"skipped, {mode}: {result}")
        # Eleven steps were taken of twelve.
        file = jobs.checkpoint(all_jobs.directory / f"skips-{mode}", 11)
        if checks.that(file.exists(), f"skipped, {mode}: a checkpoint of step 11"):
            with h5py.File(file, "r") as opened:
                checks.that((opened.attrs["step"], opened.attrs["skipped"]) == (11, 1), f"skipped, {mode}: counts")


def wrong_checkpoints(batch, all_jobs, modes, good):
    """Restarts from what is missing, cut off, damaged, or something else."""
    directory = all_jobs.directory / "strange"
    directory.mkdir(exist_ok=True)
    whole = good.read_bytes()
    with h5py.File(good, "r") as opened:
        in_weight = opened["parameters/lm_head.weight/weight"].id.get_offset() + 40
    with h5py.File(directory / "other.h5", "w") as other:
        other["parameters/x/weight"] = [1.0, 2.0]
    (directory / "cut.h5").write_bytes(whole[:len(whole) * 2 // 3])
    (directory / "short.h5").write_bytes(whole[:100])
    (directory / "empty.h5").write_bytes(b"")
    (directory / "text.h5").write_text("A text is no checkpoint.\n" * 1000)
    (directory / "flipped.h5").write_bytes(whole[:in_weight] + bytes([whole[in_weight] ^ 1]) + whole[in_weight + 1:])
    (directory / "nothing").mkdir(exist_ok=True)
    cases = {"missing.h5": 3, "nothing": 3, "cut.h5": 4, "short.h5": 4, "empty.h5": 4, "text.h5": 4, "other.h5": 4,
             "flipped.h5": 4}
    for mode, trainers, owners in modes:
        for name, status in cases.items():
            config = all_jobs.config(f"strange-{name}-{mode}", mode, checkpoints=copy_of_kept(all_jobs))
            texts = ["lm_head.weight"] if name == "flipped.h5" else []
            batch.ends(f"resume from {name}, {mode}",
                       all_jobs.programs(config, trainers, owners, f"resume={directory / name}"), status, name, *texts)
        config = all_jobs.config(f"none-{mode}", mode, checkpoints="none")
        batch.ends(f"resume without checkpoints, {mode}", all_jobs.programs(config, trainers, owners, "resume="), 3,
                   "none")


def limited_files(batch, all_jobs, modes):
    """Files of owners must not grow beyond a limit: writes fail with EFBIG."""
    limited = ["bash", "-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "-"]
    for mode, trainers, owners in modes:
        config = all_jobs.config(f"limited-{mode}", mode, checkpoints="kept")
        programs = all_jobs.programs(config, trainers, owners, "resume=", "steps=20")
        programs[-1] = (programs[-1][0], *limited, *programs[-1][1:])
        # No shared memory of MPI's: it is in files, too.
        batch.ends(f"limited files, {mode}", programs, 3, "File too large", OMPI_MCA_btl="self,tcp", OMPI_MCA_osc="^sm")


def unwritable(batch, all_jobs, modes):
    """Root may write everywhere: but not below a file, nor in /proc."""
    file = all_jobs.directory / "file"
    file.write_text("no directory\n")
    for mode, trainers, owners in modes:
        for number, directory in enumerate((str(file), str(file / "below"), "/proc/equishard")):
            config = all_jobs.config(f"unwritable-{number}-{mode}", mode, checkpoints=directory)
            batch.ends(f"checkpoints to {directory}, {mode}", all_jobs.programs(config, trainers, owners, "steps=6"), 3,
                       directory)


def replays(directory):
    good = {"config": directory / "replay.yaml", "gradients": directory / "gradients.h5",
            "output": directory / "output.h5"}
    good["config"].write_text("groups: [{match: {}, rule: adamw, lr: 0.1}]\n")

    def record(name, gradient):
        with h5py.File(directory / name, "w") as file:
            file["parameters/x.weight/weight"] = [[1.0, 2.0], [3.0, 4.0]]
            file["gradients/0/x.weight"] = gradient
        return directory / name

    def programs(ranks, **changed):
        return [(ranks, job.COMMAND, "replay", *(word for key, path in {**good, **changed}.items()
                                                 for word in (f"--{key}", path)))]

    record("gradients.h5", [[1.0, 1.0], [1.0, 1.0]])
    result = job.run(*programs(2))
    checks.that(result.returncode == 0, f"a good replay: {result}")
    before = job.snapshot(directory)

    nested = directory / "nested.h5"
    with h5py.File(nested, "w") as file:
        file["parameters/x/y/weight"] = [[1.0]]
        file.create_group("gradients")
    text = directory / "text.h5"
    cut = directory / "cut.h5"
    cases = {"no gradients": (3, dict(gradients=directory / "nowhere.h5"), "nowhere.h5"),
             "text": (4, dict(gradients=text), "text.h5"),
             "a checkpoint": (4, dict(gradients=good["output"], output=directory / "no.h5"), "output.h5"),
             "cut off": (4, dict(gradients=cut), "cut.h5"),
             "a name with '/'": (2, dict(gradients=nested), "parameter 'x/y': a checkpoint cannot have a name with '/': "
                                                            "call it 'x.y'"),
             "another shape": (2, dict(gradients=record("shape.h5", [1.0, 1.0])), "shape.h5"),
             "not finite": (1, dict(gradients=record("nan.h5", [[1.0, float("nan")], [3.0, 4.0]])), "'x.weight'"),
             "no configuration": (3, dict(config=directory / "nowhere.yaml"), "nowhere.yaml"),
             "not a directory": (3, dict(output=text / "out.h5"), "text.h5"),
             "no directory": (3, dict(output=directory / "nowhere" / "out.h5"), "nowhere")}
    text.write_text("no recording")
    cut.write_bytes(good["gradients"].read_bytes()[:1500])
    with Batch() as batch:
        for what, (status, changed, name) in cases.items():
            for ranks in 1, 3:
                batch.ends(f"replay on {ranks}, {what}", programs(ranks, **changed), status, name)
    after = job.snapshot(directory)
    checks.that(all(after[name] == before[name] for name in before) and "no.h5" not in after,
                f"replay: what was there is as it was, nothing new: {before}, {after}")


def c_programs(directory):
    all_jobs = Jobs(directory, None)
    all_jobs.trainer = all_jobs.c_trainer()
    kept = directory / "kept"
    result = all_jobs.run(all_jobs.config("kept", "service"), 2, 2, "steps=12")
    checks.that(result.returncode == 0, f"a good job: {result}")
    before = job.snapshot(kept)
    checks.that(len(before) == 4, f"three checkpoints and a link: {before}")

    modes = both_modes()
    with Batch() as batch:
        wrong_configurations(batch, all_jobs, modes)
        wrong_jobs(batch, all_jobs)
        wrong_trainers(batch, all_jobs, modes)
        wrong_checkpoints(batch, all_jobs, modes, jobs.checkpoint(kept, 12))
        unwritable(batch, all_jobs, modes)
    with Batch(workers=1) as batch:
        limited_files(batch, all_jobs, modes)
    checks.that(as_they_were(all_jobs, before), "the checkpoints are as they were")
    gradients_not_finite(all_jobs, modes)
    after = job.snapshot(kept)
    checks.that(after == before, f"a gradient that is not finite: the checkpoints are as they were {before}, {after}")


def python_programs(directory):
    all_jobs = Jobs(directory, jobs.python_trainer())
    kept = directory / "kept"
    result = all_jobs.run(all_jobs.config("kept", "service"), 2, 1, "steps=2")
    checks.that(result.returncode == 0, f"a good job: {result}")
    before = job.snapshot(kept)
    modes = both_modes(2, 1) if job.EVERYTHING else [("service", 2, 1)]
    with Batch(workers=2) as batch:
        wrong_trainers(batch, all_jobs, modes)
        if job.EVERYTHING:
            wrong_configurations(batch, all_jobs, modes)
            wrong_jobs(batch, all_jobs)
            wrong_checkpoints(batch, all_jobs, modes, jobs.checkpoint(kept, 2))
            unwritable(batch, all_jobs, modes)
        else:
            config = all_jobs.config("rule", "embedded", groups=GROUPS.replace("rule: muon", "rule: moon"))
            batch.ends("unknown rule, Python", all_jobs.programs(config, 2, 0), 2, "rule.yaml:7:", "moon")
            config = all_jobs.config("none", "embedded")
            batch.ends("no checkpoint, Python", all_jobs.programs(config, 2, 0, "resume="), 3, "none")
            config = all_jobs.config("unwritable", "service", checkpoints=str(kept / "latest" / "below"))
            batch.ends("unwritable, Python", all_jobs.programs(config, 2, 1, "steps=1"), 3, "below")
    for mode, trainers, owners in modes:
        config = all_jobs.config("raise", mode, checkpoints="kept")
        result = all_jobs.run(config, trainers, owners, "resume=", "raise=2")
        checks.that(result.returncode == 1 and result.stderr.count("LookupError: something went wrong") == 1
                    and OURS not in result.stderr, f"an exception, {mode}: {result}")
    checks.that(as_they_were(all_jobs, before), "the checkpoints are as they were, Python")


with tempfile.TemporaryDirectory() as name:
    for part in "c", "python", "replay":
        (pathlib.Path(name) / part).mkdir()
    c_programs(pathlib.Path(name) / "c")
    python_programs(pathlib.Path(name) / "python")
    replays(pathlib.Path(name) / "replay")
sys.exit(checks.failed > 0)
