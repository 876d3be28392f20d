"""Functions of torch that concern an open optimizer and do not know it: it is told of their calls.

A program may have imported them by any name before: so it is the function's code that is replaced, while an optimizer is
open, and its names only where that is not possible.
"""

import inspect
import threading
import types

import torch
from torch.nn.utils import clip_grad

_lock = threading.Lock()
_listeners = []  # open optimizers
_replaced = {}  # key -> _Replaced
_originals = {}  # key -> function; also while the last optimizer is closed in another thread


class _Replaced:
    """One function whose calls go to `called`.

    holders  objects whose attribute `name` it is
    """

    def __init__(self, key, holders, name):
        self._holders, self._name, self._given = holders, name, getattr(holders[0], name)
        inner = self._inner = inspect.unwrap(self._given)  # torch decorates some
        self._whole = isinstance(inner, types.FunctionType) and not inner.__code__.co_freevars
        scope = {}
        exec(f"def {name}(*arguments, **named):\n    from equishard.torchcalls import called\n"
             f"    return called({key!r}, arguments, named)\n", scope)
        if not self._whole:
            self.original = self._given
            for holder in holders:
                setattr(holder, name, scope[name])
            return
        self.original = types.FunctionType(inner.__code__, inner.__globals__, inner.__name__, inner.__defaults__)
        self.original.__kwdefaults__ = inner.__kwdefaults__
        signature = inspect.signature(inner)
        inner.__defaults__ = inner.__kwdefaults__ = None
        inner.__code__, inner.__signature__ = scope[name].__code__, signature

    def restore(self):
        if self._whole:
            inner, original = self._inner, self.original
            inner.__code__ = original.__code__
            inner.__defaults__, inner.__kwdefaults__ = original.__defaults__, original.__kwdefaults__
            del inner.__signature__
        else:
            for holder in self._holders:
                setattr(holder, self._name, self._given)


def _functions():
    """(key, holders, name)"""
    modules = [clip_grad, torch.nn.utils]
    for name in ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_"):
        if hasattr(clip_grad, name):
            yield name, [module for module in modules if hasattr(module, name)], name
    for package in getattr(torch, "amp", None), torch.cuda.amp:
        scaler = getattr(package, "GradScaler", None)
        if scaler is not None and "unscale_" in vars(scaler):
            yield f"{scaler.__module__}.unscale_", [scaler], "unscale_"


def listen(optimizer):
    """From now on tell an optimizer: `torch_clips(function, tensors)` before, `torch_unscaled(scaler)` after a call."""
    with _lock:
        _listeners.append(optimizer)
        if not _replaced:
            for key, holders, name in _functions():
                if key not in _replaced:
                    replaced = _replaced[key] = _Replaced(key, holders, name)
                    _originals[key] = replaced.original


def forget(optimizer):
    with _lock:
        if optimizer in _listeners:
            _listeners.remove(optimizer)
        if not _listeners:
            for replaced in _replaced.values():
                replaced.restore()
            _replaced.clear()


def called(key, arguments, named):
    """What the replaced functions do."""
    original, listeners = _originals[key], list(_listeners)
    if key.endswith("unscale_"):
        return _unscale(original, listeners, *arguments, **named)
    if not arguments and "parameters" not in named:
        return original(**named)  # which raises
    tensors = arguments[0] if arguments else named["parameters"]
    if not isinstance(tensors, torch.Tensor):
        tensors = list(tensors)  # an iterator can be read once
    for optimizer in listeners:
        optimizer.torch_clips(key, [tensors] if isinstance(tensors, torch.Tensor) else tensors)
    if arguments:
        return original(tensors, *arguments[1:], **named)
    return original(**{**named, "parameters": tensors})


def _unscale(original, listeners, scaler, optimizer):
    told = [listener for listener in listeners if listener is optimizer and scaler.is_enabled()]
    for listener in told:
        listener.torch_unscales()
    result = original(scaler, optimizer)
    for listener in told:
        listener.torch_unscaled()
    return result
