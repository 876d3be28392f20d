"""A parameter at this trainer: where its tensor is placed, and the memory that the library reads and writes."""

import math

import torch

from ._library import MAX_DIMS, PARTIAL, REPLICATE, SHARD, EquishardTypeError, EquishardUsageError, ParameterInfo
from .model import DTYPES

_PLACEMENTS = {"replicate": REPLICATE, "partial": PARTIAL, "shard(0)": SHARD, "shard(dim=0)": SHARD}


def placement(value, name):
    """An eqs_placement from DTensor's words, "Replicate", "Partial", "Shard(0)", or from its objects."""
    text = repr(value) if not isinstance(value, str) else value
    try:
        return _PLACEMENTS[text.lower().replace(" ", "").removesuffix("()")]
    except KeyError:
        raise EquishardUsageError(f"parameter '{name}': placement {text}: Replicate, Partial or Shard(0) are "
                                  "known") from None


def placements_of(placements, name, default):
    """(gradient, weight) placements of a parameter from the program's `placements=`."""
    pair = placements.get(name, default)
    if isinstance(pair, str) or not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise EquishardTypeError(f"placements: '{name}' has {pair!r:.80}; the placement of its gradient and that of its "
                                 "weight are needed, (\"Partial\", \"Replicate\")")
    return pair


def _check_shape(shape, name):
    if not isinstance(shape, (tuple, list)) or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise EquishardTypeError(f"shapes: '{name}' has {shape!r:.80}; the sizes of the full tensor are needed, "
                                 "(50257, 768)")


class Parameter:
    """
    entry        of the model: name, module class, tensor, other names
    tensor       of this trainer: all of it, or its rows where the weight is Shard(0)
    gradient     placement of gradients; weight: of weights
    shape        the full tensor's
    trainers     of the job; they split rows as torch.chunk does
    """

    def __init__(self, entry, gradient, weight, shape, trainers):
        self.name, self.module_type, self.tensor = entry.name, entry.module_type, entry.tensor
        self.other_names, self.frozen = entry.other_names, entry.frozen
        name, tensor = self.name, self.tensor
        self.dtype, self._local_shape = tensor.dtype, tensor.shape  # as the library knows them
        self.gradient, self.weight = placement(gradient, name), placement(weight, name)
        self.handle = None
        self.pushed = None  # the gradient's memory that the library is reading; True: it is told when the batch is full
        self.watch = None  # what the gradient was when backward had made it, or when it was pushed
        self.put_weight = None  # memory of a new weight that the library is reading
        self.staged = self.on_gpu
        self._host = None  # pinned memory between a GPU and the library
        if tensor.dim() > MAX_DIMS:
            raise EquishardUsageError(f"parameter '{name}' has {tensor.dim()} dimensions; at most {MAX_DIMS} are "
                                      "possible")

        if self.weight == SHARD and shape is None:
            raise EquishardUsageError(f"parameter '{name}': Shard(0) needs the full tensor's shape, "
                                      "shapes={name: shape}")
        if shape is not None:
            _check_shape(shape, name)
        self.shape = tuple(tensor.shape if shape is None else shape)
        if SHARD in (self.gradient, self.weight) and not self.shape:
            raise EquishardUsageError(f"parameter '{name}' is a scalar: it cannot be Shard(0)")
        rows = self.shape[0] if self.shape else 1
        chunk = math.ceil(rows / trainers.count)
        self._rows = slice(min(trainers.rank * chunk, rows), min((trainers.rank + 1) * chunk, rows))
        self._chunk_shape = (self._rows.stop - self._rows.start, *self.shape[1:])
        expected = self._chunk_shape if self.weight == SHARD else self.shape
        self._gradient_shape = self._chunk_shape if self.gradient == SHARD else self.shape
        self.bytes = tensor.numel() * tensor.element_size()  # of the weight here, and about of a gradient
        if tuple(tensor.shape) != expected:
            raise EquishardUsageError(f"parameter '{name}': the local tensor is {tuple(tensor.shape)}, its placement "
                                      f"asks for {expected}")

    def info(self, name=None):
        """What the library is told: of the parameter, or of another name of it."""
        info = ParameterInfo(name=(name or self.name).encode(),
                             module_type=self.module_type and self.module_type.encode(), dtype=DTYPES[self.dtype],
                             ndim=len(self.shape), gradient_placement=self.gradient, weight_placement=self.weight,
                             tied_to=self.name.encode() if name else None, frozen=self.frozen)
        info.shape[:len(self.shape)] = self.shape
        return info

    def check_form(self):
        """Whether the tensor is still of the dtype and shape that the library knows."""
        if self.tensor.dtype is not self.dtype or self.tensor.shape != self._local_shape:
            raise EquishardUsageError(
                f"parameter '{self.name}' has become {self.tensor.dtype}, {list(self.tensor.shape)} since the "
                f"optimizer was made; it was {self.dtype}, {list(self._local_shape)}: convert the model before")

    @property
    def on_gpu(self):
        return self.tensor.device.type != "cpu"

    def memory_for_gradient(self, gradient):
        """The gradient as the library reads it: this trainer's part, contiguous, on the host. The copy from a GPU is
        only started: `wait` for it."""
        if (gradient.layout is torch.strided and gradient.dtype is self.dtype and gradient.shape == self._gradient_shape
                and not self.staged and gradient.is_contiguous()):
            return gradient
        if gradient.dtype != self.dtype or gradient.layout != torch.strided:
            raise EquishardTypeError(f"parameter '{self.name}': a gradient of {gradient.dtype}, {gradient.layout} for "
                                     f"a weight of {self.dtype}, torch.strided")
        if self.gradient == SHARD and tuple(gradient.shape) == self.shape:
            gradient = gradient[self._rows]
        if tuple(gradient.shape) != self._gradient_shape:
            raise EquishardUsageError(f"parameter '{self.name}': a gradient of {tuple(gradient.shape)}, its placement "
                                      f"asks for {self._gradient_shape}")
        return self._to_host(gradient.detach())

    def memory_of_weight(self):
        """The weight as it is, as the library reads it; waits for the copy."""
        memory = self._to_host(self.tensor.detach())
        self.wait()
        return memory

    def memory_to_put(self):
        """The same, in memory of its own or the tensor's: a gradient may be on its way."""
        weight = self.tensor.detach()
        if not self.staged:
            return weight.contiguous()
        memory = self.allocate_pinned(weight.numel(), weight.dtype).view(weight.shape).copy_(weight, non_blocking=True)
        self.wait()
        return memory

    def memory_for_weight(self):
        """Memory for a new weight; then `take` it."""
        if self.staged:
            return self._pinned(self.tensor)
        if self.tensor.is_contiguous():
            return self.tensor
        return torch.empty_like(self.tensor.detach(), memory_format=torch.contiguous_format)

    def take(self, memory):
        """Put a new weight in place. The copy to a GPU is only started."""
        if memory is not self.tensor:
            self.tensor.detach().copy_(memory, non_blocking=True)

    def wait(self):
        """Wait for the copies between GPU and host."""
        if self.staged:
            torch.cuda.current_stream(self.tensor.device).synchronize()

    def record_event(self):
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.tensor.device))
        return event

    def _to_host(self, tensor):
        if not self.staged:
            return tensor.contiguous()
        return self._pinned(tensor).copy_(tensor, non_blocking=True)

    def _pinned(self, tensor):
        """A view like `tensor` of the one pinned buffer, which gradient and weight share: between eqs_step's return and
        the next push nobody reads a gradient."""
        if self._host is None or self._host.numel() < tensor.numel():
            self._host = self.allocate_pinned(tensor.numel(), tensor.dtype)
        return self._host[:tensor.numel()].view(tensor.shape)

    @staticmethod
    def allocate_pinned(count, dtype):
        return torch.empty(count, dtype=dtype, pin_memory=True)
