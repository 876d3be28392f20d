"""Whether somebody has written to tensors, seen without a copy of them: fingerprints of a bounded part of their values."""

import ctypes
from array import array
from ctypes import c_size_t, c_uint64, c_void_p

import torch

from ._library import call

_SAMPLE = 1024  # elements of a tensor on a GPU that are looked at
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # of as many bytes: NaN is equal to itself


_nothing = ctypes.create_string_buffer(64)  # where tensors without elements are, which torch says are nowhere


def addresses(numbers):
    """An array of pointers for the library."""
    if 0 in numbers:
        numbers = [number or ctypes.addressof(_nothing) for number in numbers]
    return (c_void_p * len(numbers)).from_buffer(array("Q", numbers))


def is_dense(tensor):
    """Whether a tensor's elements fill its memory, in whatever order of dimensions."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted((stride, size) for size, stride in zip(tensor.shape, tensor.stride()) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _with_gaps(tensors):
    """Numbers of those that have others' memory between their elements: they are looked at in a copy."""
    return [k for k, tensor in enumerate(tensors) if not is_dense(tensor)]


class _Host:
    """Of tensors in this process's memory: the library's fingerprints."""

    def __init__(self, tensors):
        self._tensors = tensors
        sizes = [tensor.numel() * tensor.element_size() for tensor in tensors]
        self._sizes = (c_size_t * len(tensors)).from_buffer(array("Q", sizes))
        self.locate()
        self.before = self.take()

    def locate(self):
        self._pointers = addresses([tensor.data_ptr() for tensor in self._tensors])
        self._gaps = _with_gaps(self._tensors)

    def take(self):
        copies = [self._tensors[k].detach().contiguous() for k in self._gaps]
        for k, copy in zip(self._gaps, copies):
            self._pointers[k] = copy.data_ptr() or ctypes.addressof(_nothing)
        prints = (c_uint64 * len(self._tensors))()
        call("eqs_fingerprints", len(prints), self._pointers, self._sizes, prints)
        return prints

    def look(self):
        self.now = self.take()

    def differing(self):
        if bytes(self.now) == bytes(self.before):
            return []
        return [k for k, (before, now) in enumerate(zip(self.before, self.now)) if before != now]


class _Device:
    """Of tensors on one GPU, of one type: samples, which stay there."""

    def __init__(self, tensors):
        self._tensors = tensors
        self.locate()
        self.before = self.take()

    def locate(self):
        self._views = [_sample_of(tensor) for tensor in self._tensors]
        self._gaps = _with_gaps(self._tensors)

    def take(self):
        for k in self._gaps:
            self._views[k] = _sample_of(self._tensors[k])
        sample = torch.cat(self._views)
        return sample.view(_INTEGERS[sample.element_size()])

    def look(self):
        self.now = self.take()
        self._unequal = self.now != self.before
        self._any, self._event = self._unequal.any(), None
        if self._any.is_cuda:  # on its way to this process while it goes on
            self._any = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(self._any, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(self._unequal.device))

    def differing(self):
        if self._event is not None:
            self._event.synchronize()
        if not self._any.item():
            return []
        parts = torch.split(self._unequal.cpu(), [len(view) for view in self._views])
        return [k for k, part in enumerate(parts) if part.any()]


def _sample_of(tensor):
    """Elements spread evenly over a tensor's memory, as a view; of a copy, if others' memory is between its elements."""
    tensor, count = tensor.detach(), tensor.numel()
    if not is_dense(tensor):
        tensor = tensor.contiguous()
    step = -(-count // _SAMPLE) or 1
    return tensor.as_strided((-(-count // step),), (step,))


class Fingerprints:
    """What tensors held when this was made, or at the last `renew` or `adopt`.

    on_device  of each, whether it is on a GPU
    """

    def __init__(self, tensors, on_device):
        if not any(on_device):
            self._groups = [(range(len(tensors)), _Host(tensors))]
            return
        members = {}
        for k, (tensor, device) in enumerate(zip(tensors, on_device)):
            members.setdefault((tensor.device, tensor.dtype) if device else None, []).append(k)
        self._groups = [(numbers, (_Host if key is None else _Device)([tensors[k] for k in numbers]))
                        for key, numbers in members.items()]

    def locate(self):
        """The memory of some is another now."""
        for _, group in self._groups:
            group.locate()

    def renew(self):
        """What is there now counts from now on."""
        for _, group in self._groups:
            group.before = group.take()

    def look(self):
        """Look at the tensors; on GPUs this is only started."""
        for _, group in self._groups:
            group.look()

    def adopt(self):
        """What was there at the last look counts from now on."""
        for _, group in self._groups:
            group.before = group.now

    def differing(self):
        """Which of the tensors were different when they were looked at. Waits for the GPUs."""
        return sorted(numbers[k] for numbers, group in self._groups for k in group.differing())
