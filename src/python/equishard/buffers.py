"""A model's buffers in checkpoints: running statistics, tables, masks. The first trainer's are written."""

import warnings

import torch

from . import state
from ._library import EquishardUsageError, canonical_name

KEY = "equishard.buffers"


class Buffers:
    """
    model   a module; of anything else there are none
    others  (name, tensor) of what is kept in the same way: frozen parameters of a dtype that owners do not hold
    """

    def __init__(self, model, others=()):
        self._model = model if isinstance(model, torch.nn.Module) else None
        self._others = list(others)
        self._check_names()

    def _check_names(self):
        """Whether a name in checkpoints is that of one buffer."""
        full_names = {}
        for name, tensor in self._all():
            other = full_names.setdefault(canonical_name(name), name)
            if other != name:
                raise EquishardUsageError(f"buffers '{other}' and '{name}' are both '{canonical_name(name)}' in checkpoints, "
                                          "as what wraps a model is no part of a name: give one another name, or leave "
                                          "buffers out with Optimizer(..., buffers=False)")
            if torch.nn.parameter.is_lazy(tensor):
                raise EquishardUsageError(f"buffer '{name}' is not initialized yet, as those of lazy modules before their "
                                          "first forward: run the model once on an example before the optimizer is made")

    def _all(self):
        found = list(self._model.named_buffers()) if self._model is not None else []
        return [(name, tensor) for name, tensor in found + self._others if tensor is not None]

    def _named(self):
        """name -> tensor, as the model has them now."""
        return {canonical_name(name): tensor for name, tensor in self._all()}

    def _persistent(self):
        return {canonical_name(name) for name in self._model.state_dict(keep_vars=True)}

    def encode(self):
        return state.encode({name: tensor.detach() for name, tensor in self._named().items()})

    @torch.no_grad()
    def restore(self, data, speaks):
        """Put the checkpoint's values in place. speaks: whether this trainer prints what the model lacks."""
        saved, here = state.decode(data), self._named()
        for name, tensor in here.items():
            value = saved.get(name, state.KEPT)
            if value is state.KEPT:
                continue
            if value.shape == tensor.shape:
                tensor.copy_(value)
            elif name in self._persistent():
                raise EquishardUsageError(f"buffer '{name}' has shape {list(value.shape)} in the checkpoint, "
                                          f"{list(tensor.shape)} in the model: give it that shape, or leave buffers out "
                                          "with Optimizer(..., buffers=False)")
            elif speaks:
                warnings.warn(f"equishard: buffer '{name}' has shape {list(value.shape)} in the checkpoint, "
                              f"{list(tensor.shape)} in the model, and is not persistent: the model's stays")
        missing = sorted(here.keys() - saved.keys())
        if missing and speaks:
            warnings.warn(f"equishard: the checkpoint does not have the buffers {', '.join(missing[:8])}"
                          f"{', ...' if len(missing) > 8 else ''}: the model's stay")
