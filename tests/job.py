"""What the tests in Python share: running MPI jobs with a time limit, and where things are.

`tests/run` sets EQUISHARD_BUILD (the build directory) and EQUISHARD_MPIRUN (mpirun with the options that this
machine needs); without it the defaults below let a test run by itself.
"""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("EQUISHARD_BUILD", ROOT / "build"))
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
    """Run a command to its end, killing its whole process group when time is up."""
    process = subprocess.Popen([str(word) for word in line], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=environment(**more), start_new_session=True)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        raise
    return subprocess.CompletedProcess(line, process.returncode, out, err)


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
