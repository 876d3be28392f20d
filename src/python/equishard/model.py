"""What a model holds: names, module classes, ties, what is frozen; and whether it still does at the next step."""

import collections
import collections.abc
import itertools
import operator
from typing import NamedTuple

import torch

from ._library import EquishardTypeError, EquishardUsageError, canonical_name

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # eqs_dtype

_DEEPEST = 4  # plain lists in lists that are looked into for parameters


class Entry(NamedTuple):
    name: str
    module_type: str  # or None
    tensor: torch.Tensor
    other_names: list  # of a tied tensor
    frozen: bool  # no gradient


def entries(model):
    """What is in a module, or in an iterable of (name, tensor): in its order, a tied tensor once."""
    found = {}
    for name, module_type, tensor in _of_module(model) if isinstance(model, torch.nn.Module) else _of_pairs(model):
        if id(tensor) in found:
            found[id(tensor)].other_names.append(name)
        else:
            found[id(tensor)] = Entry(name, module_type, tensor, [], not tensor.requires_grad)
    return list(found.values())


def _is_wrapper(attribute):
    """Whether an attribute of this name is where a wrapper holds the model that it wraps."""
    return canonical_name(f"{attribute}.weight") == "weight"


def _of_module(model):
    registered = {id(tensor) for module in model.modules() for tensor in module._parameters.values()}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, tensor in module._parameters.items():
            if tensor is not None:
                yield f"{path}.{name}" if path else name, type(module).__name__, tensor
        for name, tensor, remedy in _hidden(module):
            if id(tensor) not in registered and tensor.requires_grad:
                raise EquishardUsageError(f"'{path + '.' if path else ''}{name}' is an nn.Parameter that torch does not "
                                          "find, in a plain list or dict: it would not be trained; put "
                                          f"{remedy}, or requires_grad_(False)")


def _hidden(module):
    """Parameters, and those of modules, in plain lists and dicts that are attributes of a module."""
    for attribute, value in vars(module).items():
        if attribute not in ("_parameters", "_buffers", "_modules"):
            yield from _contained(attribute, value, _DEEPEST)


def _contained(name, value, depth):
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        items = enumerate(value)
    elif isinstance(value, dict):
        items = value.items()
    else:
        return
    for key, item in items:
        if isinstance(item, torch.nn.Parameter):
            yield f"{name}[{key!r}]", item, "it in an nn.ParameterList or nn.ParameterDict"
        elif isinstance(item, torch.nn.Module):
            for inner, tensor in item.named_parameters():
                yield f"{name}[{key!r}].{inner}", tensor, "its module in an nn.ModuleList or nn.ModuleDict"
        elif depth > 1 and isinstance(item, (list, tuple, set, frozenset, dict, collections.deque)):
            yield from _contained(f"{name}[{key!r}]", item, depth - 1)


def _of_pairs(model):
    remedy = "give the model itself, or pairs of name and tensor such as model.named_parameters()"
    if isinstance(model, torch.Tensor):
        raise EquishardUsageError(f"the model is a tensor, in no module and without a name: {remedy}")
    if isinstance(model, collections.abc.Mapping):
        raise EquishardUsageError(f"the model is a {type(model).__name__}: {remedy}, of a dict its items()")
    try:
        items = list(model)
    except TypeError:
        raise EquishardUsageError(f"the model is a {type(model).__name__}: {remedy}") from None
    for number, item in enumerate(items):
        if isinstance(item, torch.Tensor):
            raise EquishardUsageError(f"item {number} of the model is a tensor of shape {tuple(item.shape)} without a "
                                      f"name, as of model.parameters(): {remedy}")
        if isinstance(item, collections.abc.Mapping):
            raise EquishardUsageError(f"item {number} of the model is a dict, as of torch's parameter groups: "
                                      f"{remedy}; groups, their rules and rates are the configuration's `groups`")
        if not (isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[0], str) and
                isinstance(item[1], torch.Tensor)):
            raise EquishardUsageError(f"item {number} of the model is {item!r:.80}: {remedy}")
        yield item[0], None, item[1]


def check(entry):
    """Whether a tensor is one that can be trained, or kept frozen; the error says which and what to do."""
    name, tensor = entry.name, entry.tensor
    if torch.nn.parameter.is_lazy(tensor):
        raise EquishardUsageError(f"parameter '{name}' is not initialized yet, as those of lazy modules (LazyLinear) before "
                                  "their first forward: run the model once on an example before the optimizer is made")
    if tensor.layout != torch.strided:
        raise EquishardTypeError(f"parameter '{name}' is sparse ({tensor.layout}): give it dense, tensor.to_dense(); "
                                 "gradients must be dense too (Embedding(sparse=False))")
    if tensor.device.type == "meta":
        raise EquishardUsageError(f"parameter '{name}' is on the meta device and has no values: model.to_empty(device="
                                  "\"cpu\") and initialise it before the optimizer is made")
    if tensor.dtype not in DTYPES:
        raise EquishardTypeError(f"parameter '{name}' is {str(tensor.dtype).removeprefix('torch.')}: float32, bfloat16 "
                                 "and float16 can be trained; convert it (model.float()), or register it as a buffer")
    if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape)):
        raise EquishardUsageError(f"parameter '{name}' is expanded: several of its elements are one in memory; give it memory "
                                  "of its own, nn.Parameter(tensor.clone())")
    if not tensor.is_leaf:
        raise EquishardUsageError(f"parameter '{name}' is the result of a computation and gets no gradient: give the "
                                  "leaf tensor, or tensor.detach().requires_grad_()")


_values = operator.methodcaller("values")


class Structure:
    """Which parameter objects a module holds where; `check` is made to be called at every step."""

    def __init__(self, model):
        self._model = model if isinstance(model, torch.nn.Module) else None
        self._look()

    def config_numbers(self):
        """(key, number) of the whole numbers in the model's `config`, as Hugging Face's and nanoGPT's models have one: heads
        and fused tensors follow from them."""
        model = self._model
        while model is not None and getattr(model, "config", None) is None:
            model = next((part for name, part in model.named_children() if _is_wrapper(name)), None)
        config = getattr(model, "config", None)
        config = getattr(config, "text_config", None) or config
        values = config if isinstance(config, dict) else getattr(config, "__dict__", {})
        return [(key, value) for key, value in values.items()
                if isinstance(key, str) and type(value) is int and 0 <= value < 2**62]

    def _look(self):
        self._tables, self._held = [], {}
        if self._model is not None:
            modules = list(self._model.modules())
            self._tables = [module._parameters for module in modules] + [module._modules for module in modules]
            self._held = self._names()
        self._objects = list(self._in_tables())  # kept, so that no id is used twice
        self._ids = list(map(id, self._objects))

    def _in_tables(self):
        return itertools.chain.from_iterable(map(_values, self._tables))

    def _names(self):
        return {name: tensor for name, _, tensor in _of_module(self._model)}

    def check(self):
        """Whether every name is the same tensor as before; an error names the one that is not."""
        if list(map(id, self._in_tables())) == self._ids:
            return
        now = self._names()
        for name, tensor in now.items():
            if name not in self._held:
                raise EquishardUsageError(f"parameter '{name}' is new since the optimizer was made: it is not trained; "
                                          "make the optimizer when the model is complete, or close() it and make another")
            if self._held[name] is not tensor:
                raise EquishardUsageError(
                    f"parameter '{name}' is another object than when the optimizer was made, and would not be trained: "
                    "write into the parameter instead (with torch.no_grad(): parameter.copy_(value)), or close() the "
                    "optimizer and make another")
        for name in self._held:
            if name not in now:
                raise EquishardUsageError(f"parameter '{name}' is not in the model any more: close() the optimizer and "
                                          "make another")
        self._look()
