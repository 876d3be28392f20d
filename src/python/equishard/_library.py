"""libequishard.so by ctypes: the declarations of equishard.h, and errors as exceptions."""

import ctypes
import os
from ctypes import POINTER, c_char, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path

MAX_DIMS = 8
REPLICATE, SHARD, PARTIAL = range(3)  # eqs_placement
FAILED, USAGE, PEER_LOST = 1, 2, 5  # eqs_status


class _Sized(ctypes.Structure):
    """A struct of equishard.h: it begins with its size."""

    def __init__(self, **members):
        super().__init__(struct_size=ctypes.sizeof(self), **members)

    @classmethod
    def array(cls, count):
        """`count` of them, of which each tells its size."""
        elements = (cls * count)()
        for element in elements:
            element.struct_size = ctypes.sizeof(cls)
        return elements


class ParameterInfo(_Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("name", c_char_p),
        ("module_type", c_char_p),
        ("dtype", c_int),
        ("ndim", c_int),
        ("shape", c_int64 * MAX_DIMS),
        ("gradient_placement", c_int),
        ("weight_placement", c_int),
        ("tied_to", c_char_p),
        ("role", c_char_p),
        ("stacked", c_int),
        ("frozen", c_int),
    ]


class ParameterDescription(_Sized):
    _fields_ = [("struct_size", c_size_t), ("name", c_char_p), ("role", c_char_p), ("group", c_int),
                ("matrices", c_int64), ("in_checkpoint", c_int), ("step", c_int64)]


class GroupInfo(_Sized):
    _fields_ = [("struct_size", c_size_t), ("rule", c_char_p), ("lr", c_double), ("parameters", c_int64),
                ("momentum", c_char_p), ("schedule", c_char_p), ("settings", POINTER(c_char_p)), ("scheduled", c_int),
                ("restored_from", c_int)]


class StepInfo(_Sized):
    _fields_ = [("struct_size", c_size_t), ("step", c_int64), ("skipped", c_int64), ("skipped_last", c_int),
                ("gradient_norm", c_double)]


class Phase(_Sized):
    _fields_ = [("struct_size", c_size_t), ("name", c_char * 32), ("minimum", c_double), ("mean", c_double),
                ("maximum", c_double), ("slowest", c_int)]


class Traffic(_Sized):
    _fields_ = [("struct_size", c_size_t)] + [(name, c_int64) for name in (
        "gradient_sent", "gradient_received", "weight_sent", "weight_received", "messages_sent", "messages_received")]


class TrainerItem(_Sized):
    _fields_ = [("struct_size", c_size_t), ("key", c_char_p), ("bytes", c_char_p), ("size", c_size_t),
                ("per_trainer", c_int)]


# MPI_Comm, eqs_session * and eqs_parameter * are pointers.
_DECLARATIONS = {
    "eqs_session_open": [c_void_p, c_char_p, POINTER(c_void_p)],
    "eqs_session_open_text": [c_void_p, c_char_p, c_char_p, POINTER(c_void_p)],
    "eqs_job_trainers": [c_void_p, POINTER(c_void_p)],
    "eqs_session_trainers": [c_void_p, POINTER(c_void_p)],
    "eqs_session_tell_model": [c_void_p, c_char_p, c_int64],
    "eqs_parameter_add": [c_void_p, POINTER(ParameterInfo), c_void_p, POINTER(c_void_p)],
    "eqs_session_resume": [c_void_p, c_char_p],
    "eqs_session_resume_if_any": [c_void_p, c_char_p],
    "eqs_session_start": [c_void_p],
    "eqs_group_count": [c_void_p, POINTER(c_int)],
    "eqs_group_describe": [c_void_p, c_int, POINTER(GroupInfo)],
    "eqs_parameter_describe": [c_void_p, POINTER(ParameterDescription)],
    "eqs_group_set": [c_void_p, c_int, c_char_p, c_double],
    "eqs_group_get": [c_void_p, c_int, c_char_p, POINTER(c_double)],
    "eqs_group_set_lr": [c_void_p, c_int, c_double],
    "eqs_session_set_gradient_scale": [c_void_p, c_double],
    "eqs_push": [c_void_p, c_void_p],
    "eqs_push_many": [c_int64, POINTER(c_void_p), POINTER(c_void_p)],
    "eqs_put": [c_void_p, c_void_p],
    "eqs_clip_grad_norm": [c_void_p, c_double, POINTER(c_double)],
    "eqs_session_defer_updates": [c_void_p, c_int],
    "eqs_step": [c_void_p],
    "eqs_pull": [c_void_p, c_void_p],
    "eqs_pull_many": [c_int64, POINTER(c_void_p), POINTER(c_void_p)],
    "eqs_session_step_info": [c_void_p, POINTER(StepInfo)],
    "eqs_checkpoint": [c_void_p, POINTER(TrainerItem), c_int],
    "eqs_trainer_data": [c_void_p, c_char_p, POINTER(c_void_p), POINTER(c_size_t)],
    "eqs_session_phases": [c_void_p, POINTER(Phase), c_int, POINTER(c_int)],
    "eqs_session_traffic": [c_void_p, POINTER(Traffic)],
    "eqs_session_close": [POINTER(c_void_p)],
    "eqs_fingerprints": [c_int64, POINTER(c_void_p), POINTER(c_size_t), POINTER(c_uint64)],
    "eqs_end_job_at_exit": [c_void_p, c_int],
}

# The library prints the message of these itself, once for all ranks.
_COLLECTIVE = {"eqs_session_open", "eqs_session_open_text", "eqs_session_start", "eqs_clip_grad_norm", "eqs_step",
               "eqs_checkpoint", "eqs_session_phases", "eqs_session_close"}


class EquishardError(Exception):
    """A call failed. `status` is an eqs_status, and the exit status that the program should have."""

    def __init__(self, message, status=FAILED, printed=False):
        super().__init__(message)
        self.status = status
        self.printed = printed  # the library has printed the message, on the rank where it arose


class EquishardUsageError(EquishardError, ValueError):
    """The program has asked for what cannot be: a wrong argument, call or tensor."""

    def __init__(self, message, status=USAGE, printed=False):
        super().__init__(message, status, printed)


class EquishardTypeError(EquishardUsageError, TypeError):
    """A usage error that is one of types."""


def _candidates():
    given = os.environ.get("EQUISHARD_LIBRARY")
    if given:
        return [given]
    for directory in Path(__file__).resolve().parents:
        built = directory / "build" / "libequishard.so"
        if built.exists():
            return [str(built)]
    return ["libequishard.so"]


def _load_mpi():
    # Open MPI loads plugins that look for its symbols among the global ones.
    for name in ("libmpi.so.40", "libmpi.so"):
        try:
            return ctypes.CDLL(name, ctypes.RTLD_GLOBAL)
        except OSError as error:
            problem = error
    raise ImportError(f"Open MPI is missing: {problem}")


def _load():
    path = _candidates()[0]
    # torch and numpy have loaded a BLAS, OpenBLAS perhaps, by now. With RTLD_DEEPBIND ours and ScaLAPACK's calls
    # look among libequishard's own dependencies first, and so find BLIS.
    try:
        library = ctypes.CDLL(path, os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND)
    except OSError as error:
        raise ImportError(f"libequishard.so cannot be loaded (build it with make, or set EQUISHARD_LIBRARY): {error}")
    for name, arguments in _DECLARATIONS.items():
        getattr(library, name).argtypes = arguments
    for name in ("eqs_checkpoint_due", "eqs_stop_requested", "eqs_session_resumed", "eqs_session_failed"):
        getattr(library, name).argtypes = [c_void_p]
    library.eqs_job_deadline.argtypes, library.eqs_job_deadline.restype = [], c_double
    library.eqs_exit_status.argtypes, library.eqs_exit_status.restype = [c_int], None
    library.eqs_canonical_name.argtypes, library.eqs_canonical_name.restype = [c_char_p], None
    for name in ("eqs_error_message", "eqs_libraries"):
        getattr(library, name).restype = c_char_p
    return library


mpi = _load_mpi()
_equishard = _load()


def call(name, *arguments):
    """Call a function that returns an eqs_status; raises EquishardError."""
    status = getattr(_equishard, name)(*arguments)
    if status != 0:
        message = _equishard.eqs_error_message().decode(errors="replace")
        kind = EquishardUsageError if status == USAGE else EquishardError
        raise kind(message, status, printed=name in _COLLECTIVE)


def canonical_name(name):
    """A name without the segments of wrappers, as in checkpoints."""
    text = ctypes.create_string_buffer(name.encode())
    _equishard.eqs_canonical_name(text)
    return text.value.decode()


def checkpoint_due(session):
    return bool(_equishard.eqs_checkpoint_due(session))


def stop_requested(session):
    return bool(_equishard.eqs_stop_requested(session))


def session_resumed(session):
    return bool(_equishard.eqs_session_resumed(session))


def session_failed(session):
    return bool(_equishard.eqs_session_failed(session))


def deadline():
    return _equishard.eqs_job_deadline()


def exit_status(status):
    _equishard.eqs_exit_status(status)


def libraries():
    """Versions and paths of the libraries in use, one per line."""
    return _equishard.eqs_libraries().decode()
