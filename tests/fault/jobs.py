"""Training jobs of the tests in this directory: configurations, the trainers in C and in Python, their checkpoints."""
import json
import os
import pathlib
import sys

import h5py

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import job

HERE = pathlib.Path(__file__).resolve().parent

# Every rule that has something of its own to keep or to agree on.
GROUPS = """\
groups:
  - {match: {role: embedding}, rule: row_norm, lr: 0.05}
  - {match: {role: lm_head}, rule: row_norm, lr: 0.05}
  - {match: {role: attention}, rule: muon, lr: 0.02, weight_decay: 0.01}
  - {match: {role: mlp_gate_up}, rule: polar, lr: 0.001}
  - {match: {role: mlp_down}, rule: right_spectral, lr: 0.001}
  - {match: {}, rule: adamw, lr: 0.02}
"""

# How checkpoints are written: name -> more keys of `checkpoint`.
WRITING = {"background": "", "at-once": "async: false"}


class Jobs:
    """Jobs below one directory.

    trainer  the command of a trainer: its program and arguments before the configuration
    """

    def __init__(self, directory, trainer):
        self.directory, self.trainer = pathlib.Path(directory), trainer

    def config(self, name, mode, checkpoints=None, head="", groups=GROUPS, every=5, keep=3, policy=""):
        """Write <name>.yaml; checkpoints go to the directory of this name, or path; `policy`: further keys of theirs."""
        path = self.directory / f"{name}.yaml"
        path.write_text(f"mode: {mode}\ndeadline: 60\n{head}checkpoint: {{directory: "
                        f"{json.dumps(str(self.directory / (checkpoints or name)))}, every: {every}, keep: {keep}"
                        + (f", {policy}" if policy else "") + "}\n"
                        + groups)
        return path

    def programs(self, config, trainers, owners, *arguments, before=None):
        """The programs of a job; no owners of their own means embedded.

        before  owner -> words before its command
        """
        trainer, count = [*self.trainer, config, *arguments], owners or trainers
        owner = [job.COMMAND, "serve"] if owners else trainer
        owning = [(1, *before.get(rank, []), *owner) for rank in range(count)] if before else [(count, *owner)]
        return [(trainers, *trainer), *owning] if owners else owning

    def run(self, config, trainers, owners, *arguments, timeout=60, **more):
        return job.run(*self.programs(config, trainers, owners, *arguments), timeout=timeout, **more)

    def c_trainer(self):
        return [job.compiled(HERE / "trainer.c", self.directory)]


def python_trainer():
    return [job.PYTHON, HERE / "trainer.py"]


def tensors(file):
    """Every tensor of a checkpoint: name -> array."""
    with h5py.File(file, "r") as opened:
        return {f"{name}/{tensor}": values[()] for name, group in opened["parameters"].items()
                for tensor, values in group.items()}


def differences(file, other):
    """The tensors that are not the same bits in two checkpoints, or only in one."""
    mine, its = tensors(file), tensors(other)
    return [name for name in sorted({*mine, *its})
            if name not in mine or name not in its or mine[name].tobytes() != its[name].tobytes()]


def checkpoint(directory, step):
    return pathlib.Path(directory) / f"step-{step:08d}.h5"


def newest(directory):
    """Step of the checkpoint that a restart from a directory tries first: what `latest` names, or else what was written
    last; 0: there is none."""
    directory = pathlib.Path(directory)
    if (directory / "latest").is_symlink():
        return int(os.readlink(directory / "latest")[5:13])
    files = sorted(directory.glob("step-*.h5"), key=lambda path: path.stat().st_mtime_ns)
    return int(files[-1].name[5:13]) if files else 0


def without_created(file):
    """The bytes of a checkpoint, but for the time in it and for HDF5's checksum of the object header that holds it (HDF5
    format specification 3.0, IV.A.1.b: the 4 bytes behind the header's first chunk)."""
    with h5py.File(file, "r") as opened:
        created = opened.attrs["created"]
    created = created if isinstance(created, bytes) else created.encode()
    data = bytearray(file.read_bytes())
    if data.count(created) != 1:
        raise ValueError(f"{file}: the time is there {data.count(created)} times")
    time = data.find(created)
    header = data.rfind(b"OHDR", 0, time)
    flags = data[header + 5]
    at = header + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    end = at + width + int.from_bytes(data[at:at + width], "little")
    if not at < time < end:
        raise ValueError(f"{file}: the time is not in the first chunk of an object header")
    data[time:time + len(created)] = b"-" * len(created)
    data[end:end + 4] = b"-" * 4
    return bytes(data)
