"""The system calls by which a rank writes checkpoints, seen and disturbed by strace.

A disturbance is one of strace's injections at one call: `error=EIO` (the call fails and does nothing), `signal=SIGKILL`
(the rank dies before the call), `signal=SIGSTOP` (it stops behind it), `retval=0` (the call does nothing and says it
has). Calls are counted per thread and only on the names of a directory's checkpoints.
"""
import pathlib
import re
import subprocess
from dataclasses import dataclass

TRACED = ("openat,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,close,rename,renameat,renameat2,symlink,symlinkat,"
          "unlink,unlinkat,mkdir,mkdirat")


@dataclass(frozen=True)
class Call:
    thread: int
    name: str
    number: int  # of the calls with this name in this thread, from 1
    text: str
    save: int  # number of the save that it belongs to, from 1; 0: none
    phase: str  # of that save: prepare, write, name, link, prune
    path: pathlib.Path
    flushed: bool  # all that was written to the path before is on the disk

    @property
    def kind(self):
        """Calls of the same kind do the same thing to the same thing, in whatever save."""
        return (self.phase, self.name, "O_CREAT" in self.text, self.flushed, re.sub(r"\d+", "", self.path.name),
                len(self.path.parts))

    @property
    def reads(self):
        """A look at a directory, or the end of it or of a write: nothing that could change anything."""
        return self.name == "close" or (self.name == "openat" and "O_DIRECTORY" in self.text)

    def at(self, disturbance):
        """strace's words for a disturbance at this call."""
        return f"{self.name}:{disturbance}:when={self.number}"

    def __str__(self):
        return f"{self.name} {self.number} ({self.phase} {self.path.name}, save {self.save})"


def available():
    """Whether processes can be traced here."""
    try:
        return subprocess.run(["strace", "-qq", "-e", "trace=none", "true"], capture_output=True,
                              check=False).returncode == 0
    except FileNotFoundError:
        return False


def traced(log, directory, steps, disturbances=()):
    """The words before a rank's command: its calls on a directory, the one above it and the checkpoints of these steps in it
    go to a file."""
    names = ["latest", "latest.partial"] + [f"step-{step:08d}.h5{end}" for step in steps for end in ("", ".partial")]
    paths = [directory.parent, directory] + [directory / name for name in names]
    return (["strace", "-f", "-q", "-y", "-s", "16", "-o", log, "-e", f"trace={TRACED}"]
            + [word for path in paths for word in ("-P", path)]
            + [word for disturbance in disturbances for word in ("-e", f"inject={disturbance}")])


def path_of(name, text):
    """The path that a call is about: of a renaming the old one, of a link the link itself."""
    quoted, opened = re.findall(r'"([^"]*)"', text), re.match(r"\w+\(\d+<([^>]*)>", text)
    if opened:
        return pathlib.Path(opened[1])
    return pathlib.Path(quoted[1 if name.startswith("symlink") else 0])


class Phases:
    """Follows a rank through its saves. Only the first owner has phases other than `write`."""

    def __init__(self, every):
        self.every = every
        self.save, self.phase, self.linked = 0, "", False

    def next(self, name, path, text):
        step = re.match(r"step-(\d+)\.h5\.partial", path.name)
        if name.startswith("mkdir") and self.phase != "prepare":
            self.save, self.phase = self.save + 1, "prepare"
        elif name == "openat" and step and (self.phase == "" or "O_CREAT" in text
                                            or int(step[1]) > self.save * self.every):
            self.save, self.phase = int(step[1]) // self.every, "write"
        elif name.startswith("rename") and step and self.phase == "write":
            self.phase = "name"
        elif name.startswith("symlink"):
            self.phase, self.linked = "link", False
        elif self.phase == "link" and self.linked and name != "close":
            self.phase = "prune"
        elif name == "fsync":
            self.linked = True


def calls(log, every):
    """The calls in a log, in order. Checkpoints are due `every` so many steps."""
    found, counts, written, phases = [], {}, set(), Phases(every)
    for line in pathlib.Path(log).read_text().splitlines():
        match = re.match(r"(\d+) +((\w+)\(.*)", line)
        if not match:
            continue  # a signal, an end, the rest of a call
        thread, text, name = int(match[1]), match[2], match[3]
        number = counts[thread, name] = counts.get((thread, name), 0) + 1
        path = path_of(name, text)
        phases.next(name, path, text)
        if name in ("write", "pwrite64", "ftruncate", "fallocate"):
            written.add(path)
        elif name in ("fsync", "fdatasync"):
            written.discard(path)
        found.append(Call(thread, name, number, text, phases.save, phases.phase, path, path not in written))
    return found
