"""Weights of a file that torch.save wrote, as a safetensors file: python3 -m equishard.convert MODEL.pt MODEL.safetensors

The file may be a state_dict or hold one, as under {"model": ...} or {"state_dict": ...}. It is read with
torch.load(weights_only=True): nothing in it is executed. Tensors keep their dtypes. A tensor that has several names (tied
weights) is written once, under the first, as `equishard import` and Hugging Face's loaders expect; the other names are in
the metadata.
"""

import argparse
import collections.abc
import json
import os
import pickle
import sys

import torch

USAGE, IO, DAMAGED = 2, 3, 4  # eqs_status

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64", torch.int64: "I64",
          torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}
# Where programs put a state_dict among other things.
USUAL_KEYS = ("state_dict", "model_state_dict", "model", "module", "model_state", "weights")


class Refusal(Exception):
    """What cannot be converted, and the exit status that tells why."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def load(path):
    """What torch.save wrote, on the CPU."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise Refusal(IO, error.strerror or str(error)) from None
    except pickle.UnpicklingError as error:
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].splitlines()[0]
        raise Refusal(DAMAGED, f"not tensors alone, or damaged: {reason}; save model.state_dict()") from None
    except Exception as error:  # whatever a damaged file makes of torch.load
        raise Refusal(DAMAGED, f"torch.load cannot read it: {type(error).__name__}: {error}".splitlines()[0]) from None


def tensors_in(value):
    """The tensors of a mapping, by name; nothing of anything else."""
    if not isinstance(value, collections.abc.Mapping):
        return {}
    return {name: tensor for name, tensor in value.items() if isinstance(tensor, torch.Tensor)}


def find_state(loaded, key=None):
    """(key or None, mapping): the state_dict in what was loaded, which is that, or has one under a key."""
    if key is not None:
        if not isinstance(loaded, collections.abc.Mapping) or not tensors_in(loaded.get(key)):
            raise Refusal(USAGE, f"there are no tensors under {key!r}")
        return key, loaded[key]
    if tensors_in(loaded):
        return None, loaded
    nested = [name for name, value in loaded.items() if tensors_in(value)] if isinstance(
        loaded, collections.abc.Mapping) else []
    usual = [name for name in USUAL_KEYS if name in nested]
    if len(usual) == 1 or len(nested) == 1:
        found = (usual or nested)[0]
        return found, loaded[found]
    if nested:
        raise Refusal(USAGE, f"there are tensors under {', '.join(map(repr, nested))}; choose with --key")
    raise Refusal(USAGE, "there are no tensors with names in it")


def take_tensors(state, strip=""):
    """({name: tensor}, {other name: name} of tied ones, names of what is no tensor)."""
    taken, tied, others, seen = {}, {}, [], {}
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            others.append(str(name))
            continue
        if not isinstance(name, str):
            raise Refusal(USAGE, f"the name {name!r} is not a text")
        short = name[len(strip):] if name.startswith(strip) else name
        if tensor.layout != torch.strided or tensor.dtype not in DTYPES:
            raise Refusal(USAGE, f"{name}: {tensor.dtype}, {tensor.layout}: safetensors cannot hold it")
        if short in taken or short in tied or short == "__metadata__":
            raise Refusal(USAGE, f"{name}: the name {short} is there twice or reserved")
        place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() > 0 and place in seen:
            tied[short] = seen[place]
        else:
            seen[place] = short
            taken[short] = tensor
    return taken, tied, others


def header(tensors, metadata):
    """The length and the JSON, padded to a multiple of 8 bytes."""
    entries, offset = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    try:
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise Refusal(USAGE, f"a name is not UTF-8: {error.object[max(0, error.start - 20):error.end]!r}") from None
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def data(tensor):
    """Its bytes, row-major."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()


def write(path, tensors, metadata):
    """A safetensors file, there whole or not at all: the largest elements first, so that all are aligned."""
    order = dict(sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])))
    head, partial = header(order, metadata), path + ".partial"
    try:
        with open(partial, "wb") as file:
            file.write(head)
            for tensor in order.values():
                file.write(data(tensor))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        if os.path.exists(partial):
            os.unlink(partial)
        raise Refusal(IO, f"cannot write {path}: {error.strerror}") from None


def listed(names, most=8):
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def convert(source, target, key=None, strip=""):
    """Convert a file; says on standard output what was taken. Refusal: what could not be done, and why."""
    if os.path.exists(source) and os.path.exists(target) and os.path.samefile(source, target):
        raise Refusal(USAGE, "the output would replace it")
    found, state = find_state(load(source), key)
    tensors, tied, others = take_tensors(state, strip)
    write(target, tensors, {**tied, "format": "pt"})
    print(f"{target}: {len(tensors)} tensors{'' if found is None else f' of {found!r}'}, "
          f"{sum(tensor.numel() for tensor in tensors.values())} elements")
    for name, first in tied.items():
        print(f"{name} is the same tensor as {first}: written once")
    if others:
        print(f"no tensors, left out: {listed(others)}")


def main():
    parser = argparse.ArgumentParser(prog="python3 -m equishard.convert", description=__doc__.split("\n\n", 1)[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="Example:\n  python3 -m equishard.convert model.pt model.safetensors\n"
                                            "  build/equishard import model.safetensors --output initial.h5")
    parser.add_argument("source", metavar="MODEL.pt")
    parser.add_argument("target", metavar="MODEL.safetensors")
    parser.add_argument("--key", help="where the state_dict is in the file, if there are several")
    parser.add_argument("--strip", metavar="PREFIX", default="",
                        help="take this off the names that begin with it: module., _orig_mod.")
    given = parser.parse_args()
    try:
        convert(given.source, given.target, given.key, given.strip)
    except Refusal as refusal:
        print(f"equishard: error: {given.source}: {refusal}", file=sys.stderr)
        sys.exit(refusal.status)


if __name__ == "__main__":
    main()
