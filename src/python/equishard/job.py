"""The MPI job around the optimizer: its communicator, the trainers' own, and the end of the process.

No rank may keep others waiting: whatever ends this process early ends the job, with the exit status that belongs to
it. The library sees the process's exit status, whoever gave it: on 0 it closes the sessions that are open, with another
it ends the job (eqs_end_job_at_exit). Exceptions are seen to here, as they may leave threads behind that the interpreter
would wait for. A collective call that failed has failed on every rank, and its message is printed: the first rank ends
the job with its status. What went wrong on this rank alone is reported here, and MPI_Abort ends the others.
"""

import atexit
import ctypes
import os
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from ctypes import c_double, c_int, c_void_p

from ._library import PEER_LOST, EquishardError, EquishardUsageError, call, deadline, mpi

_SUM, _MAXIMUM = "ompi_mpi_op_sum", "ompi_mpi_op_max"
_PATIENCE = 2  # seconds that the first rank has to end the job, as those of `equishard serve`
_SPIN_SECONDS = 20e-6  # that a reduction is looked for without sleep, as it is short
_SHORTEST_PAUSE, _LONGEST_PAUSE = 20e-6, 1e-3  # seconds
_ATEXIT_SECONDS = 20  # that the program's atexit functions have after an exception


def _object(symbol):
    """Open MPI's predefined handles are the addresses of global objects."""
    return c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, symbol)))


def _check(status, function):
    if status != 0:
        raise RuntimeError(f"{function} failed with MPI error {status}")


_unfinished = []  # memory of collectives that did not end


class Trainers:
    """The trainers of a job; collectives over a few numbers, for what is printed. Each ends with an EquishardError of
    status 5 if another trainer has not come to it within `deadline` of the session that was opened last; before there is
    one, within EQUISHARD_DEADLINE of the environment, or 1800 seconds."""

    def __init__(self, communicator):
        self._communicator = communicator
        rank, count = c_int(), c_int()
        _check(mpi.MPI_Comm_rank(communicator, ctypes.byref(rank)), "MPI_Comm_rank")
        _check(mpi.MPI_Comm_size(communicator, ctypes.byref(count)), "MPI_Comm_size")
        self.rank, self.count = rank.value, count.value

    def close(self):
        self._communicator = None

    def _comm(self):
        if self._communicator is None:
            raise EquishardUsageError("the trainers' communicator went with the optimizer, which is closed")
        return self._communicator

    def _wait(self, request, call):
        """Wait for a request of MPI, asleep most of the time, not longer than the deadline."""
        begin, pause, done = time.monotonic(), _SHORTEST_PAUSE, c_int()
        limit = deadline()
        while True:
            _check(mpi.MPI_Test(ctypes.byref(request), ctypes.byref(done), None), "MPI_Test")
            if done.value:
                return
            waited = time.monotonic() - begin
            if waited > limit:
                raise EquishardError(
                    f"trainers.{call}: timed out after {limit:g} s waiting for the other trainers: all must make this "
                    "call, one of them does something else, or is lost, or `deadline` is too short", PEER_LOST)
            if waited > _SPIN_SECONDS:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _reduce(self, values, operation, call):
        communicator = self._comm()
        values = list(values)
        given, result = (c_double * len(values))(*values), (c_double * len(values))()
        request = c_void_p()
        _check(mpi.MPI_Iallreduce(given, result, c_int(len(values)), _object("ompi_mpi_double"), _object(operation),
                                  communicator, ctypes.byref(request)), "MPI_Iallreduce")
        try:
            self._wait(request, call)
        except EquishardError:
            _unfinished.append((given, result, request))  # MPI may write to them
            raise
        return list(result)

    def sum(self, values):
        """Sums over the trainers of a list of numbers. Collective."""
        return self._reduce(values, _SUM, "sum")

    def mean(self, values):
        """Means over the trainers of a list of numbers. Collective."""
        return [value / self.count for value in self._reduce(values, _SUM, "mean")]

    def maximum(self, values):
        """Maxima over the trainers of a list of numbers. Collective."""
        return self._reduce(values, _MAXIMUM, "maximum")

    def minimum(self, values):
        """Minima over the trainers of a list of numbers. Collective."""
        return [-value for value in self._reduce([-value for value in values], _MAXIMUM, "minimum")]

    def barrier(self):
        """Wait for all trainers. Collective."""
        request = c_void_p()
        _check(mpi.MPI_Ibarrier(self._comm(), ctypes.byref(request)), "MPI_Ibarrier")
        self._wait(request, "barrier")


class _Job:
    def __init__(self):
        self.world = None
        self.trainers = None  # what trainers() has found
        self.process = None
        self.open = []  # optimizers: what the library reads of them is there until the process ends


_job = _Job()


def world():
    """MPI_COMM_WORLD; starts MPI, and takes over how the process ends, if nobody has."""
    if _job.world is not None:
        return _job.world
    _job.world, _job.process = _object("ompi_mpi_comm_world"), os.getpid()
    running, started = c_int(), False
    _check(mpi.MPI_Initialized(ctypes.byref(running)), "MPI_Initialized")
    if not running.value:
        provided = c_int()
        thread_serialized = 2  # autograd calls hooks of GPU tensors in threads of its own, while this one waits
        _check(mpi.MPI_Init_thread(None, None, thread_serialized, ctypes.byref(provided)), "MPI_Init_thread")
        started = True
    call("eqs_end_job_at_exit", _job.world, int(started))
    atexit.register(_keep_memory)
    sys.excepthook = _exception_hook(sys.excepthook)
    return _job.world


def trainers():
    """The trainers of the job, before there is an optimizer: `rank` and `count` for seeds and a trainer's part of the data,
    and reductions of numbers. The first call is collective over the trainers.
    """
    if _job.trainers is None:
        communicator = c_void_p()
        call("eqs_job_trainers", world(), ctypes.byref(communicator))
        _job.trainers = Trainers(communicator)
    return _job.trainers


@contextmanager
def alike(trainers):
    """What is done under this fails on all trainers if it fails on one. Collective over the trainers."""
    failure = None
    try:
        yield
    except Exception as error:
        failure = error
    anywhere, = trainers.maximum([failure is not None])
    if failure is not None:
        raise failure
    if anywhere:
        raise EquishardUsageError("another trainer cannot make its optimizer", printed=True)


def warn(message):
    """A warning at the line of the program that has called the client."""
    frame, level = sys._getframe(1), 1
    inner = ("equishard", "torch", "contextlib")
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in inner:
        frame, level = frame.f_back, level + 1
    warnings.warn(f"equishard: {message}", stacklevel=level)


def _world_rank():
    rank = c_int()
    _check(mpi.MPI_Comm_rank(world(), ctypes.byref(rank)), "MPI_Comm_rank")
    return rank.value


def rank_count():
    """How many ranks the job has, trainers and owners."""
    count = c_int()
    _check(mpi.MPI_Comm_size(world(), ctypes.byref(count)), "MPI_Comm_size")
    return count.value


def _exception_hook(previous):
    def hook(kind, error, traceback):
        interactive = sys.flags.interactive or hasattr(sys, "ps1")
        if os.getpid() != _job.process or interactive:  # a child of this process; a prompt, which goes on
            previous(kind, error, traceback)
        elif isinstance(error, EquishardError):
            _end_failed(error)
        elif issubclass(kind, KeyboardInterrupt):
            print("equishard: interrupted", file=sys.stderr)
            _leave(130)
        else:
            previous(kind, error, traceback)
            _leave(1)

    return hook


def _end_failed(error):
    """What all ranks have failed with, all end with: the first ends the job, the others only if it does not. Nobody
    finalizes MPI, for the owners will not: an mpirun of Open MPI 4.1 may hang if some ranks abort while others do."""
    first = _world_rank() == 0
    if not error.printed:
        # What is wrong with a call or a tensor is most often so on all trainers: the first says it, if it comes to that.
        if isinstance(error, EquishardUsageError) and not first:
            time.sleep(_PATIENCE / 2)
        print(f"equishard: {error}", file=sys.stderr)
    waits = error.printed and error.status != PEER_LOST and not first
    _leave(error.status, patience=_PATIENCE if waits else 0)


def _leave(status, patience=0):
    """End the process and the job, once the program's atexit functions have run."""
    watchdog = threading.Timer(_ATEXIT_SECONDS, _abort, [status])
    watchdog.daemon = True
    watchdog.start()
    try:
        atexit._run_exitfuncs()
    except BaseException:  # it has printed what is wrong with them
        pass
    time.sleep(patience)
    _abort(status)


def _abort(status):
    for stream in sys.stdout, sys.stderr:
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it, or it is closed
            pass
    mpi.MPI_Abort(_job.world, c_int(status))
    os._exit(status)


def _keep_memory():
    """Gradients that were pushed stay where they are though the interpreter ends: sessions are closed after it."""
    if os.getpid() == _job.process:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(list(_job.open)))


def opened(optimizer):
    """Remember what the end of the process must close."""
    _job.open.append(optimizer)


def closed(optimizer):
    if optimizer in _job.open:
        _job.open.remove(optimizer)


def close_failed():
    """Sessions that have failed can only be closed: another one is not to find their files in use."""
    for optimizer in [optimizer for optimizer in _job.open if optimizer.failed]:
        optimizer.close()
