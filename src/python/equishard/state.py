"""Values as bytes and back, without pickle: nothing is executed when a checkpoint is read.

Numbers, texts, bytes, None, lists, tuples, sets, dicts with any keys, Counter, OrderedDict, deque, tensors and numpy
arrays, as deep as they are nested. What is none of these (functions, weak references, objects) is KEPT: in its place
stays what the new object has.

The bytes: a line that says what it is, the length of a JSON text (8 bytes, little endian), the text, and the bytes of
tensors and arrays, one after the other.
"""

import collections
import enum
import json

import numpy
import torch

from ._library import EquishardUsageError

_MAGIC = b"equishard-value 1\n"
_DEEPEST = 64  # what is nested deeper refers to itself
_COLLECTIONS = {"tuple": tuple, "set": set, "frozenset": frozenset, "deque": collections.deque}
_MAPPINGS = {"dict": dict, "Counter": collections.Counter, "OrderedDict": collections.OrderedDict}


class _Kept:
    def __repr__(self):
        return "KEPT"


KEPT = _Kept()


class _Writer:
    def __init__(self, strict):
        self._strict = strict
        self.blob = bytearray()

    def write(self, value, depth=0):
        """`value` as what json writes."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if depth > _DEEPEST:
            return self._refuse(value, "is nested too deep")
        if kind is list:
            return [self.write(item, depth + 1) for item in value]
        return self._write_tagged(value, depth)

    def _write_tagged(self, value, depth):
        if isinstance(value, enum.Enum):
            return self._refuse(value, f"is a {type(value).__name__}")
        if isinstance(value, (bytes, bytearray)):
            return {"": "bytes", "at": self._append(bytes(value))}
        if isinstance(value, torch.Tensor):
            return self._write_tensor(value)
        if isinstance(value, (numpy.ndarray, numpy.generic)):
            return self._write_array(value)
        if isinstance(value, complex):
            return {"": "complex", "parts": [value.real, value.imag]}
        if isinstance(value, (float, int, str)):  # of a class of their own
            return self.write(next(kind(value) for kind in (float, int, str) if isinstance(value, kind)))
        for name, kind in _MAPPINGS.items():
            if type(value) is kind or (kind is dict and isinstance(value, dict)):
                return {"": name, "items": [[self.write(key, depth + 1), self.write(item, depth + 1)]
                                            for key, item in value.items()]}
        for name, kind in _COLLECTIONS.items():
            if isinstance(value, kind):
                return {"": name, "items": [self.write(item, depth + 1) for item in value]}
        return self._refuse(value, f"is a {type(value).__name__}")

    def _write_tensor(self, value):
        if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
            return self._refuse(value, f"is a tensor of {value.layout} on {value.device}")
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy() if value.numel() else b""
        return {"": "tensor", "dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape),
                "at": self._append(bytes(data))}

    def _write_array(self, value):
        if value.dtype.hasobject or value.dtype.names is not None:
            return self._refuse(value, f"is an array of {value.dtype}")
        return {"": "array" if isinstance(value, numpy.ndarray) else "scalar", "dtype": value.dtype.str,
                "shape": list(value.shape), "at": self._append(value.tobytes())}

    def _append(self, data):
        self.blob += data
        return [len(self.blob) - len(data), len(data)]

    def _refuse(self, value, why):
        if self._strict:
            raise EquishardUsageError(f"{value!r:.80} {why}: it cannot be written to a checkpoint; numbers, texts, "
                                      "bytes, lists, tuples, dicts, tensors and arrays of these can")
        return {"": "kept"}


class _Reader:
    def __init__(self, blob):
        self._blob = blob

    def read(self, written):
        if isinstance(written, list):
            return [self.read(item) for item in written]
        if not isinstance(written, dict):
            return written
        kind = written[""]
        if kind == "kept":
            return KEPT
        if kind in _MAPPINGS:
            return _MAPPINGS[kind]((self.read(key), self.read(item)) for key, item in written["items"])
        if kind in _COLLECTIONS:
            return _COLLECTIONS[kind](self.read(item) for item in written["items"])
        if kind == "complex":
            return complex(*written["parts"])
        start, size = written["at"]
        data = self._blob[start:start + size]
        if kind == "bytes":
            return bytes(data)
        if kind == "tensor":
            dtype, shape = getattr(torch, written["dtype"]), written["shape"]
            values = torch.frombuffer(bytearray(data), dtype=dtype) if size else torch.empty(0, dtype=dtype)
            return values.reshape(shape)
        array = numpy.frombuffer(data, dtype=written["dtype"]).reshape(written["shape"]).copy()
        return array if kind == "array" else array[()]


def encode(value, strict=False):
    """A value as bytes. strict: what cannot be written is an error, else KEPT."""
    writer = _Writer(strict)
    text = json.dumps(writer.write(value), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return b"".join((_MAGIC, len(text).to_bytes(8, "little"), text, writer.blob))


def is_encoded(data):
    return data.startswith(_MAGIC)


def decode(data):
    """The value that `encode` made bytes of."""
    start = len(_MAGIC) + 8
    end = start + int.from_bytes(data[len(_MAGIC):start], "little")
    return _Reader(memoryview(data)[end:]).read(json.loads(data[start:end].decode("utf-8", "surrogatepass")))


def merge(saved, new):
    """A saved value, with that of the new object where the saved one is KEPT."""
    if saved is KEPT:
        return new
    if isinstance(saved, dict):
        here = new if isinstance(new, dict) else {}
        merged = [(key, merge(value, here.get(key, KEPT))) for key, value in saved.items()]
        result = type(saved)() if not isinstance(new, collections.defaultdict) else type(new)(new.default_factory)
        for key, value in merged:
            if value is not KEPT:
                result[key] = value
        return result
    if isinstance(saved, (list, tuple, collections.deque)):
        alike = isinstance(new, (list, tuple, collections.deque)) and len(new) == len(saved)
        here = list(new) if alike else [KEPT] * len(saved)
        items = [merge(value, other) for value, other in zip(saved, here)]
        if isinstance(new, tuple) and hasattr(new, "_fields") and len(new) == len(items):
            return type(new)(*items)
        return type(saved)(items)
    return saved
