"""The system calls by which a rank writes checkpoints, seen and disturbed by a library that is preloaded (calls.c).

A disturbance of a call: the name of an error (the call fails with it and does nothing), `kill` (the rank dies before it),
`stop` (the rank stops behind it), `skip` (the call does nothing and says it has), `wait` (it is made half a second later).
Calls are counted over all threads of a rank.
"""
import errno
import pathlib
import re
import subprocess
from dataclasses import dataclass

import jobs

SOURCE = jobs.HERE / "calls.c"
CREATES, DIRECTORY = 0o100, 0o200000  # O_CREAT, O_DIRECTORY: of the flags of an opening


@dataclass(frozen=True)
class Call:
    number: int
    name: str
    path: pathlib.Path  # of a renaming the old one, of a link the link itself
    flags: int
    disturbed: bool
    save: int  # number of the save that it belongs to, from 1; 0: none
    phase: str  # of that save: prepare, write, name, link, prune
    flushed: bool  # all that was written to the path before is on the disk

    @property
    def kind(self):
        """Calls of the same kind do the same thing to the same thing, in whatever save."""
        return (self.phase, self.name, self.flags, self.flushed, re.sub(r"\d+", "", self.path.name), len(self.path.parts))

    @property
    def reads(self):
        """A look at a directory, or the end of it or of a write: nothing that could change anything."""
        return self.name in ("close", "opendir") or bool(self.flags & DIRECTORY)

    def but(self, disturbance):
        """The words for a disturbance of this call."""
        return f"{self.number}:{coded(disturbance)}"

    def __str__(self):
        return f"call {self.number}, {self.name} ({self.phase} {self.path.name}, save {self.save})"


def coded(disturbance):
    return str(getattr(errno, disturbance, disturbance))


def every(name, disturbance):
    """The words for a disturbance of all calls of this name."""
    return f"0:{name}={coded(disturbance)}"


def preloaded(directory):
    """Build the library; its path."""
    library = pathlib.Path(directory) / "calls.so"
    subprocess.run(["gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE,
                    "-ldl"], check=True)
    return library


def watched(library, log, directory, disturbances=()):
    """The words before a rank's command: its calls that write a directory go to a file."""
    return ["env", f"LD_PRELOAD={library}", f"CALLS_LOG={log}", f"CALLS_DIRECTORY={directory}",
            f"CALLS_DISTURB={' '.join(disturbances)}"]


class Phases:
    """Follows a rank through its saves. Only the first owner has phases other than `write`."""

    def __init__(self, interval):
        self.interval = interval
        self.save, self.phase, self.linked = 0, "", False

    def next(self, name, path, flags):
        step = re.match(r"step-(\d+)\.h5\.partial", path.name)
        if name == "mkdir" and self.phase != "prepare":
            self.save, self.phase = self.save + 1, "prepare"
        elif name == "open" and step and (flags & CREATES or self.phase in ("", "write")):
            self.save, self.phase = int(step[1]) // self.interval, "write"
        elif name == "rename" and step and self.phase == "write":
            self.phase = "name"
        elif name == "symlink":
            self.phase, self.linked = "link", False
        elif self.phase == "link" and self.linked and name != "close":
            self.phase = "prune"
        elif name == "fsync":
            self.linked = True


def calls(log, interval):
    """The calls in a log, in order. Checkpoints are due every `interval` steps."""
    found, written, phases = [], set(), Phases(interval)
    lines = pathlib.Path(log).read_text().splitlines() if pathlib.Path(log).exists() else []
    for line in lines:
        number, name, path, flags, *disturbed = line.split(" ")
        path, flags = pathlib.Path(path), int(flags, 8)
        phases.next(name, path, flags)
        if name in ("pwrite", "ftruncate", "fallocate"):
            written.add(path)
        elif name == "fsync":
            written.discard(path)
        found.append(Call(int(number), name, path, flags, bool(disturbed), phases.save, phases.phase, path not in written))
    return found
