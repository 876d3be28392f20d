"""The MPI job around the optimizer: its communicator, the trainers' own, and the end of the process.

No rank may keep others waiting: whatever ends this process early ends the job, with the exit status that belongs to
it. A collective call that failed has failed on every rank, and its message is printed: the first rank ends the job with
its status. What went wrong on this rank alone is reported here, and MPI_Abort ends the others.
"""

import atexit
import ctypes
import os
import sys
import threading
import time
from ctypes import c_double, c_int, c_void_p

from ._library import PEER_LOST, EquishardError, mpi

_SUM, _MAXIMUM = "ompi_mpi_op_sum", "ompi_mpi_op_max"
_PATIENCE = 2  # seconds that the first rank has to end the job, as those of `equishard serve`
_FINALIZE_SECONDS = 20  # MPI_Finalize waits for all ranks; one that is lost never comes


def _object(symbol):
    """Open MPI's predefined handles are the addresses of global objects."""
    return c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, symbol)))


def _check(status, function):
    if status != 0:
        raise RuntimeError(f"{function} failed with MPI error {status}")


class Trainers:
    """The trainers of a job; collectives over a few numbers, for what is printed."""

    def __init__(self, communicator):
        self._communicator = communicator
        rank, count = c_int(), c_int()
        _check(mpi.MPI_Comm_rank(communicator, ctypes.byref(rank)), "MPI_Comm_rank")
        _check(mpi.MPI_Comm_size(communicator, ctypes.byref(count)), "MPI_Comm_size")
        self.rank, self.count = rank.value, count.value

    def _reduce(self, values, operation):
        values = list(values)
        given, result = (c_double * len(values))(*values), (c_double * len(values))()
        _check(mpi.MPI_Allreduce(given, result, c_int(len(values)), _object("ompi_mpi_double"), _object(operation),
                                 self._communicator), "MPI_Allreduce")
        return list(result)

    def sum(self, values):
        """Sums over the trainers of a list of numbers. Collective."""
        return self._reduce(values, _SUM)

    def mean(self, values):
        """Means over the trainers of a list of numbers. Collective."""
        return [value / self.count for value in self.sum(values)]

    def maximum(self, values):
        """Maxima over the trainers of a list of numbers. Collective."""
        return self._reduce(values, _MAXIMUM)

    def minimum(self, values):
        """Minima over the trainers of a list of numbers. Collective."""
        return [-value for value in self._reduce([-value for value in values], _MAXIMUM)]

    def barrier(self):
        """Wait for all trainers. Collective."""
        _check(mpi.MPI_Barrier(self._communicator), "MPI_Barrier")


class _Job:
    def __init__(self):
        self.world = None
        self.process = None
        self.started_mpi = False
        self.open = []  # what is to be closed before MPI_Finalize
        self.exit_code = 0  # of sys.exit


_job = _Job()


def world():
    """MPI_COMM_WORLD; starts MPI, and takes over how the process ends, if nobody has."""
    if _job.world is not None:
        return _job.world
    _job.world, _job.process = _object("ompi_mpi_comm_world"), os.getpid()
    running = c_int()
    _check(mpi.MPI_Initialized(ctypes.byref(running)), "MPI_Initialized")
    if not running.value:
        provided = c_int()
        thread_serialized = 2  # autograd calls hooks of GPU tensors in threads of its own, while this one waits
        _check(mpi.MPI_Init_thread(None, None, thread_serialized, ctypes.byref(provided)), "MPI_Init_thread")
        _job.started_mpi = True
    atexit.register(_end)
    sys.excepthook = _exception_hook(sys.excepthook)
    sys.exit = _recording_exit(sys.exit)
    return _job.world


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
        if isinstance(error, EquishardError):
            if not error.printed:
                print(f"equishard: {error}", file=sys.stderr)
            _leave_failed(error)
        if issubclass(kind, KeyboardInterrupt):
            print("equishard: interrupted", file=sys.stderr)
            _leave(130, abort=True)
        previous(kind, error, traceback)
        _leave(1, abort=True)

    return hook


def _recording_exit(previous):
    def exit(code=None, /):
        # As Python does: None is success, anything that is no number is a message and failure.
        _job.exit_code = code if isinstance(code, int) else int(code is not None)
        previous(code)

    return exit


def _leave(status, abort):
    """End the process now, with an exit status."""
    sys.stdout.flush()
    sys.stderr.flush()
    if abort:
        mpi.MPI_Abort(_job.world, c_int(status))
    _finalize(status)
    os._exit(status)


def _leave_failed(error):
    """What all ranks have failed with, all end with: the first ends the job, the others only if it does not. Nobody
    finalizes MPI, for the owners will not: an mpirun of Open MPI 4.1 may hang if some ranks abort while others do."""
    if error.printed and error.status != PEER_LOST and _world_rank() != 0:
        time.sleep(_PATIENCE)
    _leave(error.status, abort=True)


def _finalize(status_if_stuck):
    if not _job.started_mpi:
        return
    watchdog = threading.Timer(_FINALIZE_SECONDS, os._exit, [status_if_stuck])
    watchdog.daemon = True
    watchdog.start()
    mpi.MPI_Finalize()
    watchdog.cancel()


def _end():
    """What runs at the end of a program that no exception ended."""
    if os.getpid() != _job.process:
        return  # a child of this process
    status = _job.exit_code % 256
    if _job.exit_code != 0:
        # This rank gave up while the others may go on.
        _leave(status or 1, abort=bool(_job.open))
    try:
        for optimizer in list(_job.open):
            optimizer.close()
    except EquishardError as error:
        _leave_failed(error)
    _finalize(PEER_LOST)


def opened(optimizer):
    """Remember what the end of the process must close."""
    _job.open.append(optimizer)


def closed(optimizer):
    if optimizer in _job.open:
        _job.open.remove(optimizer)
