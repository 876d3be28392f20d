"""What the tests in Python share: running MPI jobs with a time limit, and where things are.

`tests/run` sets EQUISHARD_BUILD (the build directory) and EQUISHARD_MPIRUN (mpirun with the options that this
machine needs); without it the defaults below let a test run by itself.
"""
import hashlib
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("EQUISHARD_BUILD", ROOT / "build")).resolve()
COMMAND = BUILD / "equishard"
MPIRUN = os.environ.get("EQUISHARD_MPIRUN", "mpirun --oversubscribe --bind-to none" +
                        (" --allow-run-as-root" if os.getuid() == 0 else "")).split()
EVERYTHING = "EQUISHARD_TEST_ALL" in os.environ
PYTHON = sys.executable


def environment(**more):
    """This process's environment, with the PyTorch client and the library of the build."""
    path = os.pathsep.join([str(ROOT / "src/python")] + [p for p in [os.environ.get("PYTHONPATH")] if p])
    return dict(os.environ, PYTHONPATH=path, EQUISHARD_LIBRARY=str(BUILD / "libequishard.so"), OMP_NUM_THREADS="1",
                **more)


def launch_line(*programs):
    """The mpirun line of one job: each program is (ranks, argument, ...)."""
    line = list(MPIRUN)
    for i, (ranks, *arguments) in enumerate(programs):
        line += ([":"] if i else []) + ["-np", str(ranks)] + [str(argument) for argument in arguments]
    return line


def run(*programs, timeout=60, **more):
    """Run one MPI job to its end. TimeoutExpired after `timeout` seconds: a hang is a failure."""
    return finish(launch_line(*programs), timeout=timeout, **more)


def finish(line, timeout=60, **more):
    """Run a command to its end; when time is up, it and all its processes are killed."""
    process = start(line, **more)
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        end(process)
    return subprocess.CompletedProcess(line, process.returncode, out, err)


def start(line, **more):
    """Start a command in a process group of its own, with pipes; `end` it."""
    return subprocess.Popen([str(word) for word in line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=environment(**more), start_new_session=True)


def end(process):
    """See to it that nothing of a started command is left: its ranks have groups of their own."""
    for number, _ in descendants(process.pid) if process.poll() is None else []:
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if process.poll() is None:
        process.kill()
        process.communicate()


def descendants(process):
    """Processes below one: [(id, command line)], parents first."""
    children = {}
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            command = (status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        children.setdefault(parent, []).append((int(status.parent.name), command))
    found = list(children.get(process, []))
    for number, _ in found:
        found += children.get(number, [])
    return found


def ranks(process):
    """The ranks of the job below a process: rank in MPI_COMM_WORLD -> id."""
    found = {}
    for number, _ in descendants(process):
        try:
            variables = pathlib.Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        for variable in variables:
            if variable.startswith(b"OMPI_COMM_WORLD_RANK="):
                found.setdefault(int(variable.partition(b"=")[2]), number)
    return found


def compiled(source, directory):
    """Build a C program against the library of the build; returns its path."""
    program = pathlib.Path(directory) / pathlib.Path(source).stem
    subprocess.run(["mpicc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/include", "-o", program, source,
                    f"-L{BUILD}", "-lequishard", f"-Wl,-rpath,{BUILD}", "-lm"], check=True)
    return program


def snapshot(directory):
    """What a directory holds, but for who has it: name -> digest of the bytes, or the target of a link."""
    return {str(path.relative_to(directory)):
            os.readlink(path) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
            for path in pathlib.Path(directory).rglob("*")
            if path.is_symlink() or (path.is_file() and path.name != ".lock")}


def serve(ranks):
    """The program of `ranks` owners."""
    return (ranks, COMMAND, "serve")


class Checks:
    """Counts what failed; a test ends with sys.exit(checks.failed > 0)."""

    def __init__(self):
        self.failed = 0

    def that(self, condition, what):
        if not condition:
            self.failed += 1
            print(f"FAILED: {what}")
        return condition

    def at_most(self, value, limit, what):
        return self.that(value <= limit, f"{what}: {value:.3g} is more than {limit:.3g}")
