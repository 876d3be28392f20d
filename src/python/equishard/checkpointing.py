"""What checkpoints have of the trainers: their own data, registered objects."""

import hashlib
import json
import warnings

from . import _library, state
from ._library import EquishardTypeError, EquishardUsageError
from .groups import read_item

_RESERVED = "equishard."


def _json(value):
    return json.dumps(value).encode()


def _is_plain(value):
    """Whether json gives a value back as it was: no tuples, no keys but texts."""
    if isinstance(value, dict):
        return type(value) is dict and all(type(key) is str and _is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def _encode(key, value, exact):
    """A value as bytes: bytes and texts as they are, else as json, else as `state` does. exact: json only for what it
    gives back as it was."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    try:
        if not exact or _is_plain(value):
            return _json(value)
    except (TypeError, ValueError):
        pass
    try:
        return state.encode(value, strict=True)
    except EquishardUsageError as error:
        raise EquishardUsageError(f"checkpoint({key}=...): {error}") from None


def pack_items(items, per_trainer, own):
    """(array for eqs_checkpoint, what must live as long). own: the client's, encoded."""
    if not isinstance(per_trainer, dict):
        raise EquishardTypeError(f"checkpoint(per_trainer=...) is a {type(per_trainer).__name__}; a dict is needed: "
                                 "{\"random\": torch.get_rng_state()}")
    for key in [*items, *per_trainer]:
        if not isinstance(key, str) or key.startswith(_RESERVED):
            raise EquishardUsageError(f"checkpoint: the key {key!r} must be a text and not begin with `{_RESERVED}`")
    both = items.keys() & per_trainer.keys()
    if both:
        raise EquishardUsageError(f"checkpoint: '{min(both)}' is given twice, for all trainers and for every trainer")
    kept = [(key.encode(), _encode(key, value, False), False) for key, value in items.items()]
    kept += [(key.encode(), _encode(key, value, True), True) for key, value in per_trainer.items()]
    kept += [(key.encode(), value, False) for key, value in own.items()]
    array = _library.TrainerItem.array(len(kept))
    for item, (key, value, own_of_trainer) in zip(array, kept):
        item.key, item.bytes, item.size, item.per_trainer = key, value, len(value), own_of_trainer
    return array, kept


def pack_alike(trainers, items, per_trainer, own):
    """pack_items, which fails on all trainers if it does on one, or if their keys of data of their own differ. Collective
    over the trainers."""
    digest, failure = 0, None
    try:
        packed = pack_items(items, per_trainer, own)
        digest = int.from_bytes(hashlib.sha256(_json(sorted(per_trainer))).digest()[:6], "little")  # exact as float64
    except EquishardUsageError as error:
        failure = error
    low, high, failed = trainers.maximum([-digest, digest, failure is not None])
    if failure is not None:
        raise failure
    if failed:
        raise EquishardUsageError("another trainer has given checkpoint() what cannot be written", printed=True)
    if -low != high:
        raise EquishardUsageError(f"checkpoint(per_trainer=...): trainer {trainers.rank} has given "
                                  f"{', '.join(sorted(per_trainer)) or 'nothing'}, another trainer other keys: all give "
                                  "the same keys, each with its own values")
    return packed


class TrainerData:
    """The trainers' data in the checkpoint that was restored."""

    def __init__(self, session, trainers):
        self._session, self._trainers = session, trainers

    def read(self, key):
        return read_item(self._session, key)

    def get(self, key):
        data = self.read(key)
        if data is not None:
            return self._value(data)
        all_trainers = []
        while (data := self.read(f"{key}@{len(all_trainers)}")) is not None:
            all_trainers.append(self._value(data))
        if not all_trainers:
            return None
        return all_trainers[self._trainers.rank] if len(all_trainers) == self._trainers.count else all_trainers

    @staticmethod
    def _value(data):
        return state.decode(data) if state.is_encoded(data) else data


class Objects:
    """Objects with `state_dict` and `load_state_dict`, by name.

    saved    their states in the checkpoint that was restored, encoded, or None
    resumed  whether one was restored
    speaks   whether this trainer prints warnings
    """

    def __init__(self, saved, resumed, speaks):
        self._objects = {}
        self._saved = state.decode(saved) if saved else {}
        self._resumed, self._speaks = resumed, speaks
        self._warned = False  # of a scheduler that is not registered

    def add(self, name, value):
        for call in ("state_dict", "load_state_dict"):
            if not callable(getattr(value, call, None)):
                raise EquishardTypeError(f"register_for_checkpointing({name}=...): a {type(value).__name__} has no "
                                         f"{call}(); hand other data over with checkpoint(name=value) and "
                                         "trainer_data(name)")
        if self._objects.get(name, value) is not value:
            raise EquishardUsageError(f"register_for_checkpointing: '{name}' is registered already, another object")
        self._objects[name] = value

    def restore(self, name, rearranged):
        """Put an object where it was in the checkpoint; whether there was something of it. rearranged: Groups', for the
        lists of schedulers."""
        if name not in self._saved:
            if self._resumed and self._speaks:
                warnings.warn(f"equishard: the checkpoint has nothing of '{name}': it begins anew", stacklevel=3)
            return False
        value = self._objects[name]
        fresh = value.state_dict()
        merged = state.merge(rearranged(self._saved[name], fresh), fresh)
        if merged:  # a GradScaler that was not enabled has nothing
            value.load_state_dict(merged)
        return True

    def warn_of_missing(self):
        """Before the first step: whether the checkpoint had objects that the program has not registered again."""
        missing = sorted(self._saved.keys() - self._objects.keys())
        self._saved = {}
        if missing and self._speaks:
            warnings.warn(f"equishard: the checkpoint has the state of {', '.join(missing)}, which nobody has "
                          "registered by the first step: not restored; call register_for_checkpointing when the "
                          "object is made")

    def encode(self, has_scheduler):
        """has_scheduler: whether a scheduler of torch drives the optimizer."""
        if has_scheduler and not self._warned and all(hasattr(value, "get_scale") for value in self._objects.values()):
            self._warned = True
            warnings.warn("equishard: a learning rate scheduler is at work that is not in this checkpoint: after a "
                          "restart it would begin anew; optimizer.register_for_checkpointing(scheduler=scheduler)",
                          stacklevel=3)
        return state.encode({name: value.state_dict() for name, value in self._objects.items()})


def check_own_state(state_dict, step, param_groups):
    """Whether a state_dict is of this optimizer, at this step."""
    remedy = "weights, momentum and counts come back with Optimizer(model, config, resume=...), not from a state_dict"
    if not isinstance(state_dict, dict) or "param_groups" not in state_dict:
        raise EquishardUsageError(f"load_state_dict: this is no state_dict of an optimizer; {remedy}")
    states = list(state_dict.get("state", {}).values())
    foreign = sorted({str(key) for one in states for key in one} - {"step"}) if all(
        isinstance(one, dict) for one in states) else ["state"]
    steps = {state_dict["step"]} if "step" in state_dict else {float(one["step"]) for one in states if "step" in one}
    if foreign or not steps or any("rule" not in group for group in state_dict["param_groups"]):
        what = f" (it has {', '.join(foreign)})" if foreign else ""
        raise EquishardUsageError(f"load_state_dict: the state_dict is of another optimizer{what}; {remedy}")
    sizes = [[len(group["params"]) for group in groups] for groups in (state_dict["param_groups"], param_groups)]
    if sizes[0] != sizes[1]:
        raise EquishardUsageError(f"load_state_dict: the state_dict has groups of {sizes[0]} parameters, this "
                                  f"optimizer of {sizes[1]}")
    if step not in {int(one) for one in steps}:
        raise EquishardUsageError(f"load_state_dict: the state_dict is of step {int(max(steps))}, this optimizer is at "
                                  f"step {step}; {remedy}")
