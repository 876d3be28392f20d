"""Gradients between backward and the end of the step: handed over to the library in batches, and watched."""

import threading
from collections import deque

import torch

from ._library import EquishardUsageError, call
from .fingerprints import Fingerprints, addresses
from .hooks import after_accumulation, at_end_of_backward

# A batch is handed over when it is so large: enough to fill a message, so that owners work while backward goes on.
_BATCH_BYTES, _BATCH_COUNT = 1 << 20, 256
_UNMAPPED_BYTES = 1 << 16  # larger memory may be given back to the system when it is freed


def _can_watch(gradient):
    """A sparse one has no memory of its own; it is refused when it is pushed, unless the program makes it dense before."""
    return gradient is not None and gradient.layout is torch.strided


class _Watch:
    """Gradients as they were at one moment."""

    def __init__(self, parameters, gradients, fingerprints):
        self._parameters, self._gradients = parameters, gradients
        self._own = [parameter.tensor.grad is gradient for parameter, gradient in zip(parameters, gradients)]
        self._versions = [gradient._version for gradient in gradients]
        self._pointers = [gradient.data_ptr() for gradient in gradients]
        self._fingerprints = None
        if fingerprints:
            self._fingerprints = Fingerprints(gradients, [parameter.staged for parameter in parameters])
        for parameter in parameters:
            parameter.watch = self

    def _changed(self):
        moved = False
        for k, (parameter, gradient) in enumerate(zip(self._parameters, self._gradients)):
            if gradient.data_ptr() != self._pointers[k]:
                moved = True
            elif gradient._version == self._versions[k] and (not self._own[k] or parameter.tensor.grad is gradient):
                continue
            yield parameter
        if self._fingerprints is not None:
            if moved:
                self._fingerprints.locate()
            self._fingerprints.look()
            for k in self._fingerprints.differing():
                yield self._parameters[k]

    def changed(self):
        """Parameters whose gradient was written to or replaced since; not those that are watched anew."""
        return [parameter for parameter in self._changed() if parameter.watch is self]


class _Batch:
    """Gradients on their way to where the library reads them."""

    def __init__(self, parameters, memories):
        self.parameters = parameters
        self._pointers = addresses([memory.data_ptr() for memory in memories])
        self._handles = addresses([parameter.handle.value for parameter in parameters])
        staged = {parameter.tensor.device: parameter for parameter in parameters if parameter.staged}
        self._events = [parameter.record_event() for parameter in staged.values()]
        self._last = list(staged.values())

    def is_there(self):
        """Whether it has come; nobody waits."""
        return all(event.query() for event in self._events)

    def wait(self):
        for parameter in self._last:
            parameter.wait()

    def hand_over(self):
        call("eqs_push_many", len(self.parameters), self._handles, self._pointers)


class Gradients:
    """
    parameters    of the optimizer
    pushed        those whose gradients backward pushes
    watched       those whose gradients are looked at after backward, though they are pushed in step
    look, begin   called when a step's first gradients are there, and before they are handed over
    fingerprints  whether to look at values, and not only at torch's counter of writes
    timed         context manager that counts the time spent on pushing
    """

    def __init__(self, parameters, pushed, watched, look, begin, fingerprints, timed):
        self._parameters = parameters
        self._look, self._begin, self._fingerprints, self._timed = look, begin, fingerprints, timed
        self._lock = threading.RLock()  # hooks of tensors on several GPUs run in several threads
        self.accumulates = False  # in no_sync
        self._made, self._made_bytes, self._end_awaited = [], 0, False  # by backward, not taken yet
        self._on_way = deque()
        self._looked = self._begun = False
        self._hooks = [after_accumulation(parameter.tensor, self._pushing_hook(parameter)) for parameter in pushed]
        self._hooks += [after_accumulation(parameter.tensor, self._watching_hook(parameter)) for parameter in watched]

    @property
    def any_pushed(self):
        """Whether the library has been told of gradients of the step under way."""
        return self._begun or self._looked

    def _pushing_hook(self, parameter):
        size, lock = parameter.bytes, self._lock

        def made(*_):
            if self.accumulates:
                return
            if parameter.pushed is not None:
                self._refuse_second_backward(parameter)
            parameter.pushed = True
            with lock:
                self._made.append(parameter)
                self._made_bytes += size
                if not self._end_awaited:
                    self._end_awaited = True
                    at_end_of_backward(self._take_made)
                if self._made_bytes >= _BATCH_BYTES or len(self._made) >= _BATCH_COUNT:
                    self._take_made(last=False)

        return made

    def _watching_hook(self, parameter):
        lock = self._lock

        def made(*_):
            with lock:
                self._made.append(parameter)
                if not self._end_awaited:
                    self._end_awaited = True
                    at_end_of_backward(self._watch_made)

        return made

    @staticmethod
    def _refuse_second_backward(parameter):
        raise EquishardUsageError(
            f"'{parameter.name}' has a gradient of a second backward in this step, after that of the first was pushed: put "
            "`with optimizer.no_sync():` around all backwards of a step but the last; where a layer is used several times "
            "under torch.utils.checkpoint, checkpoint it with use_reentrant=False")

    def _take_made(self, last=True):
        with self._timed("push"), self._lock:
            made, self._made, self._made_bytes = self._made, [], 0
            if last:
                self._end_awaited = False
            if made:
                self._take(made, [parameter.tensor.grad for parameter in made], watch=True)
            self._hand_over()

    def _watch_made(self):
        with self._lock:
            made, self._made, self._end_awaited = self._made, [], False
        made = [parameter for parameter in made if _can_watch(parameter.tensor.grad)]
        _Watch(made, [parameter.tensor.grad for parameter in made], self._fingerprints)

    def _take(self, parameters, gradients, watch):
        """Start to bring gradients to where the library reads them."""
        if not self._looked:
            self._looked = True
            self._look()
        memories = [parameter.memory_for_gradient(gradient) for parameter, gradient in zip(parameters, gradients)]
        if watch:
            # `gradient.data = x` then leaves this memory where it is. Of small ones the process keeps freed memory anyhow.
            memories = [memory.detach() if parameter.bytes > _UNMAPPED_BYTES else memory
                        for parameter, memory in zip(parameters, memories)]
        for parameter, memory in zip(parameters, memories):
            parameter.pushed = memory
        if watch:
            _Watch(parameters, gradients, self._fingerprints)
        self._on_way.append(_Batch(parameters, memories))

    def _hand_over(self, wait=False):
        while self._on_way:
            if wait:
                self._on_way[0].wait()
            elif not self._on_way[0].is_there():
                return
            self.begin()
            self._on_way.popleft().hand_over()

    def begin(self):
        """Before the first gradient of a step is handed over, and before a step without any."""
        if not self._begun:
            if not self._looked:
                self._looked = True
                self._look()
            try:
                self._begin()
            except BaseException:
                self._forget()
                raise
            self._begun = True

    def _forget(self):
        """Nothing of the step was handed over: as if backward had pushed nothing. Gradients are still in the tensors."""
        self._on_way.clear()
        self._made, self._made_bytes = [], 0
        self.release()

    def push(self, parameter, gradient):
        """Push one now. It is watched."""
        if gradient is None:
            raise EquishardUsageError(f"'{parameter.name}' has no gradient to push")
        with self._lock:
            self._take([parameter], [gradient], watch=True)
            self._hand_over(wait=True)

    def settle(self):
        """Let the library have all that backward has pushed."""
        with self._lock:
            if self._made and self._made[0].pushed:  # of a backward that failed
                self._take_made()
            self._hand_over(wait=True)

    def push_rest(self, watch):
        """Push what backward has not pushed, and wait until the library has everything."""
        with self._lock:
            rest, gradients, size = [], [], 0
            for parameter in reversed(self._parameters):  # gradients come into being in reverse order
                if parameter.pushed is not None:
                    continue
                gradient = parameter.tensor.grad
                if gradient is None:
                    continue
                rest.append(parameter)
                gradients.append(gradient)
                size += parameter.bytes
                if size >= _BATCH_BYTES or len(rest) >= _BATCH_COUNT:
                    self._take(rest, gradients, watch)
                    self._hand_over()
                    rest, gradients, size = [], [], 0
            if rest:
                self._take(rest, gradients, watch)
            self._hand_over(wait=True)
            self.begin()

    def watch_again(self):
        """What gradients are now is what backward has made."""
        watched = [parameter for parameter in self._parameters
                   if parameter.watch is not None and _can_watch(parameter.tensor.grad)]
        if watched:
            _Watch(watched, [parameter.tensor.grad for parameter in watched], self._fingerprints)

    def changed(self):
        """(parameter, whether it was pushed) of gradients that were changed after they were pushed or watched."""
        watches = {id(parameter.watch): parameter.watch for parameter in self._parameters if parameter.watch is not None}
        return [(parameter, parameter.pushed is not None) for watch in watches.values() for parameter in watch.changed()]

    def release(self):
        """The step is over."""
        for parameter in self._parameters:
            parameter.pushed = parameter.watch = None
        self._looked = self._begun = False

    def close(self):
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
