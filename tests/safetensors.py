"""Safetensors files as others read and write them: from the format's description, by numpy, apart from what is tested."""
import json
import math
import struct

import numpy as np

# bfloat16, which numpy does not have, as its bits
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "U8": "u1", "BOOL": "?"}


def read(path):
    """(metadata, {name: (dtype, array)}), in the order of the header. AssertionError: not as the format wants it."""
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    assert length % 8 == 0 and data[8:9] == b"{" and len(data) >= 8 + length
    header = json.loads(data[8:8 + length].decode())
    metadata, tensors, end = header.pop("__metadata__", {}), {}, 0
    assert all(isinstance(value, str) for value in metadata.values())
    for name, entry in header.items():
        assert set(entry) == {"dtype", "shape", "data_offsets"} and entry["data_offsets"][0] == end, (name, entry)
        begin, end = entry["data_offsets"]
        dtype = np.dtype(DTYPES[entry["dtype"]])
        assert end - begin == dtype.itemsize * math.prod(entry["shape"])
        array = np.frombuffer(data[8 + length + begin:8 + length + end], dtype).reshape(entry["shape"])
        tensors[name] = (entry["dtype"], array)
    assert len(data) == 8 + length + end
    return metadata, tensors


def write(path, tensors, metadata=None, pad=0):
    """{name: (dtype, array)}, one after the other. pad: spaces behind the header."""
    header, body = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, (dtype, array) in tensors.items():
        data = np.ascontiguousarray(array, DTYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    write_raw(path, json.dumps(header).encode() + b" " * pad, body)


def write_raw(path, header, body, length=None):
    """Any header, any body, any length of the header."""
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + body)
