"""Bad input ends a job on all ranks, soon, with one message of ours, the exit status that belongs to it, and every
checkpoint as it was. By the trainer in C in both modes; by the one in Python where Python has a part in it."""
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

import h5py

import jobs
from jobs import GROUPS, Jobs, job

checks = job.Checks()
OURS = "equishard: error: "
NOT_HERE = "Input/output error|No space left on device|File too large"


def ends(what, result, status, *texts, messages=1):
    """The job ended with this status, and said it in this many messages of ours, with these texts in the first."""
    lines = [line for line in result.stderr.splitlines() if OURS in line]
    # Some texts are alternatives, joined by '|'.
    good = (result.returncode == status and len(lines) == messages
            and all(any(one in lines[0] for one in text.split("|")) for text in texts))
    checks.that(good, f"{what}: status {result.returncode}, not {status}, or not one message with {texts}\n"
                f"{result.stderr}")


def both_modes(trainers=2, owners=2):
    return [("service", trainers, owners), ("embedded", trainers + 1, 0)]


def wrong_configurations(all_jobs, modes):
    """The configuration is refused: file and line are named, or the parameter."""
    unknown_key = GROUPS.replace("lr: 0.02, weight_decay", "lr: 0.02, weigth_decay")
    cases = {
        "unknown key in a group": (dict(groups=unknown_key), [":7:", "weigth_decay"]),
        "unknown key": (dict(head="mood: good\n"), [":3:", "mood"]),
        "unknown rule": (dict(groups=GROUPS.replace("rule: muon", "rule: moon")), [":7:", "moon"]),
        "unknown layout": (dict(groups=GROUPS.replace("rule: muon", "rule: muon, layout: rows")), [":7:", "rows"]),
        "no group": (dict(groups=GROUPS.replace("match: {}", "match: {ndim: 3}")), ["'model.norm.weight'|'norm.weight'"]),
        "rule for another shape": (dict(groups=GROUPS.replace("{match: {}, rule: adamw", "{match: {}, rule: muon")),
                                   [":10:", "norm.weight'|bias'"]),
        "not YAML": (dict(groups="groups: [\n"), [".yaml:"]),
    }
    for what, (arguments, texts) in cases.items():
        for mode, trainers, owners in modes:
            config = all_jobs.config("wrong", mode, **arguments)
            ends(f"{what}, {mode}", all_jobs.run(config, trainers, owners), 2, "wrong.yaml"
                 if ":" in texts[0] else "", *texts)


def wrong_jobs(all_jobs):
    """Ranks and configuration do not fit, or there is no configuration."""
    ends("service without owner", all_jobs.run(all_jobs.config("wrong", "service"), 2, 0), 2, "no owner")
    ends("embedded with owners", all_jobs.run(all_jobs.config("wrong", "embedded"), 2, 1), 2, "embedded")
    ends("owners only", job.run(job.serve(2)), 2, "no trainer")
    ends("one owner only", job.run(job.serve(1)), 2, "no trainer")
    missing = all_jobs.directory / "missing.yaml"
    for mode, trainers, owners in both_modes():
        ends(f"no configuration, {mode}", all_jobs.run(missing, trainers, owners), 3, str(missing))


def wrong_trainers(all_jobs, modes):
    for mode, trainers, owners in modes:
        config = all_jobs.config("wrong", mode, checkpoints="kept")
        ends(f"shapes, {mode}", all_jobs.run(config, trainers, owners, "shape=1"), 2, "trainers disagree",
             "self_attn.q_proj.weight'|q_proj.weight'", "shape [16, 15]|shape [15, 16]", "shape [16, 16]")
        ends(f"another model, {mode}", all_jobs.run(config, trainers, owners, "other=1", "resume="), 2,
             "up_proj.weight", "k_proj.weight|embed_tokens.weight")


def gradients_not_finite(all_jobs, modes):
    for mode, trainers, owners in modes:
        config = all_jobs.config("wrong", mode, checkpoints="kept")
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


def wrong_checkpoints(all_jobs, modes, good):
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
        config = all_jobs.config("wrong", mode, checkpoints="kept")
        for name, status in cases.items():
            texts = ["lm_head.weight"] if name == "flipped.h5" else []
            ends(f"resume from {name}, {mode}", all_jobs.run(config, trainers, owners, f"resume={directory / name}"),
                 status, name, *texts)
        config = all_jobs.config("wrong", mode, checkpoints="none")
        ends(f"resume without checkpoints, {mode}", all_jobs.run(config, trainers, owners, "resume="), 3, "none")


def try_tmpfs(directory, size):
    """Mount a small file system, where that is possible."""
    directory.mkdir(exist_ok=True)
    return subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


def full_disk(all_jobs, modes, *size):
    """The first checkpoint fits, the second does not: the first stays, and `latest` at it."""
    for mode, trainers, owners in modes:
        directory = all_jobs.directory / "small"
        if not try_tmpfs(directory, "300k"):
            print("no file system can be mounted: the full disk is only tested by a limit on file sizes")
            return
        try:
            config = all_jobs.config("small", mode)
            result = all_jobs.run(config, trainers, owners, "steps=5", *size)
            before = job.snapshot(directory)
            checks.that(result.returncode == 0 and len(before) == 2, f"full disk, {mode}: one fits: {result}, {before}")
            (directory / "rest").write_bytes(b"-" * max(0, os.statvfs(directory).f_bavail * 4096 - 40960))
            before = job.snapshot(directory)
            ends(f"full disk, {mode}", all_jobs.run(config, trainers, owners, "resume=", "steps=20", *size), 3,
                 "No space left on device")
            checks.that(job.snapshot(directory) == before, f"full disk, {mode}: the checkpoints are as they were")
        finally:
            subprocess.run(["umount", "-l", directory], check=True)


def limited_files(all_jobs, modes):
    """Files of owners must not grow beyond a limit: writes fail with EFBIG."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))

    limited = ["bash", "-c", "trap '' XFSZ; ulimit -f 40; exec \"$@\"", "-"]
    for mode, trainers, owners in modes:
        config = all_jobs.config("limited", mode, checkpoints="kept")
        # No shared memory of MPI's: it is in files, too.
        if owners:
            programs = all_jobs.programs(config, trainers, owners, "resume=", "steps=20")
            programs[1] = (owners, *limited, *programs[1][1:])
        else:
            programs = [(trainers, *limited, *all_jobs.trainer, config, "resume=", "steps=20")]
        result = job.run(*programs, OMPI_MCA_btl="self,tcp", OMPI_MCA_osc="^sm", timeout=60)
        ends(f"limited files, {mode}", result, 3, "File too large")


def unwritable(all_jobs, modes):
    for mode, trainers, owners in modes:
        file = all_jobs.directory / "file"
        file.write_text("no directory\n")
        for directory in str(file), str(file / "below"), "/proc/equishard":
            config = all_jobs.config("unwritable", mode, checkpoints=directory)
            ends(f"checkpoints to {directory}, {mode}", all_jobs.run(config, trainers, owners, "steps=6"), 3, directory)
        checks.that(file.read_text() == "no directory\n", "the file in the way is as it was")


def replays(directory):
    config, recording, output = directory / "replay.yaml", directory / "gradients.h5", directory / "output.h5"
    config.write_text("groups: [{match: {}, rule: adamw, lr: 0.1}]\n")

    def replay(what, status, *texts, ranks=2, **changed):
        paths = dict(config=config, gradients=recording, output=output, **{})
        paths.update(changed)
        arguments = [word for key, path in paths.items() for word in (f"--{key}", path)]
        before = output.read_bytes() if output.exists() else None
        ends(f"replay, {what}", job.run((ranks, job.COMMAND, "replay", *arguments)), status, *texts)
        checks.that((output.read_bytes() if output.exists() else None) == before, f"replay, {what}: the output is as it was")

    with h5py.File(recording, "w") as file:
        file["parameters/x.weight/weight"] = [[1.0, 2.0], [3.0, 4.0]]
        file["gradients/0/x.weight"] = [[1.0, 1.0], [1.0, 1.0]]
    checks.that(job.run((2, job.COMMAND, "replay", "--config", config, "--gradients", recording, "--output",
                         output)).returncode == 0, "replay")
    replay("no gradients", 3, "nowhere.h5", gradients=directory / "nowhere.h5")
    (directory / "text.h5").write_text("no recording")
    replay("text", 4, "text.h5", gradients=directory / "text.h5")
    replay("a checkpoint instead", 4, "output.h5", gradients=output, output=directory / "no.h5")
    (directory / "cut.h5").write_bytes(recording.read_bytes()[:1500])
    replay("cut off", 4, "cut.h5", gradients=directory / "cut.h5")
    with h5py.File(directory / "shape.h5", "w") as file:
        file["parameters/x.weight/weight"] = [[1.0, 2.0], [3.0, 4.0]]
        file["gradients/0/x.weight"] = [1.0, 1.0]
    replay("another shape", 2, "shape.h5", "0/x.weight", gradients=directory / "shape.h5")
    with h5py.File(directory / "nan.h5", "w") as file:
        file["parameters/x.weight/weight"] = [[1.0, 2.0], [3.0, 4.0]]
        file["gradients/0/x.weight"] = [[1.0, float("nan")], [3.0, 4.0]]
    replay("not finite", 1, "'x.weight'", "not finite", gradients=directory / "nan.h5")
    replay("no configuration", 3, "nowhere.yaml", config=directory / "nowhere.yaml")
    replay("output not writable", 3, "text.h5", output=directory / "text.h5" / "out.h5")
    replay("output not writable, one rank", 3, "text.h5", output=directory / "text.h5" / "out.h5", ranks=1)


def c_programs(directory):
    all_jobs = Jobs(directory, None)
    all_jobs.trainer = all_jobs.c_trainer()
    kept = directory / "kept"
    result = all_jobs.run(all_jobs.config("kept", "service"), 2, 2, "steps=12")
    checks.that(result.returncode == 0, f"a good job: {result}")
    before = job.snapshot(kept)
    checks.that(len(before) == 4, f"three checkpoints and a link: {before}")

    modes = both_modes()
    wrong_configurations(all_jobs, modes)
    wrong_jobs(all_jobs)
    wrong_trainers(all_jobs, modes)
    wrong_checkpoints(all_jobs, modes, jobs.checkpoint(kept, 12))
    limited_files(all_jobs, modes)
    unwritable(all_jobs, modes)
    full_disk(all_jobs, modes)
    checks.that(job.snapshot(kept) == before, "the checkpoints are as they were")
    gradients_not_finite(all_jobs, modes)
    after = job.snapshot(kept)
    checks.that({name: after.get(name) for name in before if "10" in name or "12" in name} ==
                {name: before[name] for name in before if "10" in name or "12" in name},
                f"what was there when a gradient was not finite is as it was: {before}, {after}")


def python_programs(directory):
    all_jobs = Jobs(directory, jobs.python_trainer())
    kept = directory / "kept"
    result = all_jobs.run(all_jobs.config("kept", "service"), 2, 1, "steps=2")
    checks.that(result.returncode == 0, f"a good job: {result}")
    before = job.snapshot(kept)
    modes = both_modes(2, 1) if job.EVERYTHING else [("service", 2, 1)]
    if job.EVERYTHING:
        wrong_configurations(all_jobs, modes)
        wrong_checkpoints(all_jobs, modes, jobs.checkpoint(kept, 2))
        limited_files(all_jobs, modes)
        unwritable(all_jobs, modes)
        gradients_not_finite(all_jobs, modes)
    else:
        config = all_jobs.config("wrong", "embedded", groups=GROUPS.replace("rule: muon", "rule: moon"))
        ends("unknown rule, Python", all_jobs.run(config, 2, 0), 2, "wrong.yaml:7:", "moon")
        config = all_jobs.config("wrong", "embedded", checkpoints="none")
        ends("no checkpoint, Python", all_jobs.run(config, 2, 0, "resume="), 3, "none")
        config = all_jobs.config("wrong", "service", checkpoints=str(kept / "latest" / "below"))
        ends("unwritable, Python", all_jobs.run(config, 2, 1, "steps=1"), 3, "below")
    wrong_trainers(all_jobs, modes)
    for mode, trainers, owners in modes:
        config = all_jobs.config("wrong", mode, checkpoints="kept")
        result = all_jobs.run(config, trainers, owners, "resume=", "raise=2")
        checks.that(result.returncode == 1 and result.stderr.count("LookupError: something went wrong") == 1,
                    f"an exception, {mode}: {result}")
    checks.that(job.snapshot(kept) == before, "the checkpoints are as they were, Python")


with tempfile.TemporaryDirectory() as name:
    for part in "c", "python", "replay":
        (pathlib.Path(name) / part).mkdir()
    c_programs(pathlib.Path(name) / "c")
    python_programs(pathlib.Path(name) / "python")
    replays(pathlib.Path(name) / "replay")
sys.exit(checks.failed > 0)
