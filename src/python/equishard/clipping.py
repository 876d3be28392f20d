"""When owners must not begin before all gradients are there, because the program will clip them."""

import ctypes
from ctypes import c_double

from ._library import call


class Deferral:
    """
    clips  whether the program calls clip_grad_norm_; None: that is learned. The first step of a run is deferred, and all
           after a call.
    """

    def __init__(self, session, clips):
        self._session, self._clips = session, clips
        self._deferred = False
        self._called, self._first = False, True

    def begin_step(self):
        """Before the first gradient of a step."""
        defers = self._called or self._first if self._clips is None else self._clips
        if defers != self._deferred:
            call("eqs_session_defer_updates", self._session, int(defers))
            self._deferred = defers

    def clip(self, max_norm, norm):
        """Clip the step under way; `norm`, a c_double, becomes that of the gradient."""
        call("eqs_clip_grad_norm", self._session, c_double(max_norm), ctypes.byref(norm))
        self._called = True

    def end_step(self):
        self._first = False
