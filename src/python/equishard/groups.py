"""param_groups: the settings of the configuration's groups, as programs and torch's schedulers read and change them.

A group has the settings of its rule under torch's names: `lr`, `weight_decay`, `beta`, which is also `momentum`, `betas`
(whose first is `momentum` too), `alpha`, `eps`. What is changed between steps holds from the next step on. `rule`,
`momentum_kind`, `schedule` and `group` (the number in the configuration) are to be read. Other keys are the program's and
its schedulers'.
"""

import ctypes
import json
import operator
import warnings
from ctypes import c_double, c_size_t, c_void_p

from . import _library, state
from ._library import EquishardTypeError, EquishardUsageError, call
from .job import warn

KEY = "equishard.groups"
_C_KEY = "equishard.settings"  # the library's: of every group {"rule": ..., setting: [configured, in force]}

# A group's key and the settings in it, if its rule has them.
_KEYS = {"lr": ["lr"], "weight_decay": ["weight_decay"], "beta": ["beta"], "alpha": ["alpha"], "eps": ["eps"],
         "betas": ["beta1", "beta2"]}
# Keys that mean something to torch's optimizers or in the configuration: not the program's own.
_FOREIGN = {"momentum", *_KEYS, "beta1", "beta2", "dampening", "nesterov", "amsgrad", "maximize", "foreach", "capturable",
            "differentiable", "fused", "decoupled_weight_decay", "lr_decay", "rho", "centered", "etas", "step_sizes",
            "solver", "steps", "form", "scale", "nu_scope", "center", "row_mode", "order", "side", "layout", "split",
            "head_dim", "grid", "block", "match", "eps_mode", "restarts", "coefficients", "normalisation", "normalization",
            "ns_steps", "backend_steps", "momentum_decay", "clip_grad_norm", "max_grad_norm", "learning_rate", "wd",
            "weightdecay", "lr_scale", "warmup"}


# What shows that a dict is the state of one of torch's schedulers, and lists in these that are of no groups.
_OF_SCHEDULERS = {"base_lrs", "min_lrs", "_last_lr", "last_epoch"}
_OF_NO_GROUP = {"_schedulers", "_milestones", "milestones", "_schedule_phases"}


def read_item(session, key):
    """Bytes of the restored checkpoint's data, or None."""
    start, size = c_void_p(), c_size_t()
    call("eqs_trainer_data", session, key.encode(), ctypes.byref(start), ctypes.byref(size))
    return None if start.value is None else ctypes.string_at(start, size.value)


class _Group:
    """One group of the configuration that has parameters."""

    def __init__(self, session, number):
        self._session, self.number = session, number
        info = _library.GroupInfo()
        call("eqs_group_describe", session, number, ctypes.byref(info))
        settings = []
        while info.settings[len(settings)] is not None:
            settings.append(info.settings[len(settings)].decode())
        self.rule = info.rule.decode()
        # Its number in the checkpoint that was restored; -1: it was not there.
        self.restored_from = info.restored_from
        self.schedule, self.scheduled = info.schedule.decode(), bool(info.scheduled)
        self.in_force = {setting: self._get(setting) for setting in settings}
        self.base_lr = self.in_force["lr"]  # the configuration's
        self.lr_changed = 1.0  # by how much the configuration's rate has changed since the checkpoint
        self._saved_lr = self.base_lr
        self.fixed = {"rule": self.rule, "schedule": self.schedule, "group": number}
        if info.momentum is not None:
            self.fixed["momentum_kind"] = info.momentum.decode()
        self._keys = {key: names for key, names in _KEYS.items() if all(name in self.in_force for name in names)}
        for setting in ("beta", "beta1"):
            if setting in self.in_force:
                self._keys["momentum"] = [setting]
        self._refused = _FOREIGN - self._keys.keys()

    def _get(self, setting):
        value = c_double()
        call("eqs_group_get", self._session, self.number, setting.encode(), ctypes.byref(value))
        return value.value

    def _shown(self, key):
        names = self._keys[key]
        return self.in_force[names[0]] if len(names) == 1 else tuple(self.in_force[name] for name in names)

    def keys(self):
        """What torch's group has besides `params`."""
        return {**{key: self._shown(key) for key in self._keys}, **self.fixed}

    def extras(self, group):
        """What the program and its schedulers have put into torch's group."""
        return {key: value for key, value in group.items()
                if key != "params" and key not in self._keys and key not in self.fixed}

    def changes(self, index, group):
        """{setting: value} of what torch's group has otherwise than it is in force."""
        found = {}
        for key, value in self.fixed.items():
            if group.get(key) != value:
                raise EquishardUsageError(f"param_groups[{index}]['{key}'] was changed from {value!r} to "
                                          f"{group.get(key)!r}: it cannot change; the configuration decides it")
        if not self._refused.isdisjoint(group):
            key = min(self._refused & group.keys())
            raise EquishardUsageError(f"param_groups[{index}]['{key}'] was set to {group[key]!r}: the rule {self.rule} "
                                      "of the group has no such setting that can change; it has "
                                      f"{', '.join(self._keys)}")
        for key, names in self._keys.items():
            for name, number in zip(names, self._numbers(index, group, key, len(names))):
                if number == self.in_force[name]:
                    continue
                if found.setdefault(name, number) is not number and found[name] != number:
                    raise EquishardUsageError(f"param_groups[{index}]: '{key}' is changed to {number:g}, and another "
                                              f"key of the same setting to {found[name]:g}")
        return found

    @staticmethod
    def _numbers(index, group, key, count):
        place = f"param_groups[{index}]['{key}']"
        if key not in group:
            raise EquishardUsageError(f"{place} was removed; it is a setting of the group's rule")
        try:
            numbers = [float(value) for value in group[key]] if count > 1 else [float(group[key])]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) != count:
            raise EquishardTypeError(f"{place} must be {'a number' if count == 1 else f'{count} numbers'}, is "
                                     f"{group[key]!r:.80}")
        return numbers

    def set(self, group, changes):
        """Changes for the steps that follow; torch's group shows them under all names."""
        for setting, value in changes.items():
            call("eqs_group_set", self._session, self.number, setting.encode(), value)
            self.in_force[setting] = value
        for key, names in self._keys.items():
            if not changes.keys().isdisjoint(names):
                group[key] = self._shown(key)

    def restore_base(self, saved):
        """Read what the configuration's rate was when the checkpoint was written. saved: the library's words."""
        configured, self._saved_lr = saved["lr"]
        if self.in_force["lr"] == self._saved_lr:
            self.base_lr = configured
        elif configured != 0:
            self.lr_changed = self.base_lr / configured
            self._saved_lr = self.base_lr if self._saved_lr == configured else self._saved_lr * self.lr_changed

    def as_restored(self, extras):
        """keys() and extras of a checkpoint. Where a scheduler was at work and the configuration's rate has changed
        since, it goes on from where it was, with the new rate."""
        keys = {**self.keys(), **extras}
        if self.lr_changed != 1.0 and "initial_lr" in extras:
            keys["lr"] = self._saved_lr
            keys["initial_lr"] = extras["initial_lr"] * self.lr_changed
        return keys


class Groups:
    """All groups, in the order of the configuration.

    members  number in the configuration -> tensors
    speaks   whether this trainer prints warnings
    """

    def __init__(self, session, members, speaks):
        self._session, self._speaks = session, speaks
        self._groups = [_Group(session, number) for number in sorted(members)]
        self._members = [members[group.number] for group in self._groups]
        self._flattened = False  # whether that was said
        self._restored = None  # what a checkpoint has put into torch's groups
        self._places = None  # of every group the index in the checkpoint's param_groups; None: it was not there
        self._saved_count = 0  # how many groups these were
        self._told_of_new = False
        self._load()

    def _load(self):
        """What the checkpoint has of the groups, for `for_torch`."""
        self._extras = [{} for _ in self._groups]
        words, data = read_item(self._session, _C_KEY), read_item(self._session, KEY)
        if words is None and data is None:
            return
        saved = json.loads(words) if words is not None else []
        for group in self._groups:
            if 0 <= group.restored_from < len(saved) and saved[group.restored_from]["rule"] == group.rule:
                group.restore_base(saved[group.restored_from])
        if data is None:
            return
        in_file = state.decode(data)
        places = {(number, rule): place for place, (number, rule, _) in enumerate(in_file)}
        self._saved_count = len(in_file)
        self._places = [places.get((group.restored_from, group.rule)) for group in self._groups]
        for place, mine in zip(self._places, self._extras):
            if place is not None:
                mine.update(in_file[place][2])

    def for_torch(self):
        """param_groups, as a checkpoint had them if one was restored."""
        return [{"params": tensors, **group.as_restored(extras)}
                for group, tensors, extras in zip(self._groups, self._members, self._extras)]

    def defaults(self):
        """torch's `defaults`, where its schedulers look for what they may change in every group."""
        shared = set.intersection(*(set(group.keys()) - group.fixed.keys() for group in self._groups))
        return {key: value for key, value in self._groups[0].keys().items() if key in shared}

    def keep_restored(self, param_groups, step):
        """Remember what a checkpoint has put into torch's groups. step: of the checkpoint."""
        if step > 0 and read_item(self._session, KEY) is None:  # of an older version, whose groups had always this one
            for group in param_groups:
                group.setdefault("initial_lr", group["lr"])
        self._restored = [{key: value for key, value in group.items() if key != "params"} for group in param_groups]

    def put_back(self, param_groups):
        """What the checkpoint had, after a scheduler's constructor has changed it."""
        if self._restored is None:
            return
        for group, restored in zip(param_groups, self._restored):
            group.update(restored)

    def rearranged(self, saved, fresh):
        """A scheduler's saved state, whose lists have an entry for each of the checkpoint's groups, with an entry for each
        of today's. fresh: the state of the new scheduler, which new groups' entries are taken from."""
        if self._places is None or self._places == list(range(self._saved_count)):
            return saved
        return self._rearranged(saved, fresh)

    def _rearranged(self, saved, fresh, key=None, in_scheduler=False):
        if isinstance(saved, dict):
            here = fresh if isinstance(fresh, dict) else {}
            in_scheduler = not _OF_SCHEDULERS.isdisjoint(saved)
            return type(saved)((name, self._rearranged(value, here.get(name), name, in_scheduler))
                               for name, value in saved.items())
        if key == "use_beta1":  # whether it changes `betas`, which all groups must have
            return saved and fresh
        if not isinstance(saved, (list, tuple)):
            return saved
        if in_scheduler and key not in _OF_NO_GROUP and len(saved) == self._saved_count:
            if fresh is None and key == "_last_lr":  # of a scheduler that has not stepped
                fresh = [group.in_force["lr"] for group in self._groups]
            if isinstance(fresh, (list, tuple)) and len(fresh) == len(self._groups):
                self._tell_of_new()
                return type(saved)(fresh[k] if place is None else saved[place] for k, place in enumerate(self._places))
        if isinstance(fresh, (list, tuple)) and len(fresh) == len(saved):
            return type(saved)(map(self._rearranged, saved, fresh))
        return saved

    def _tell_of_new(self):
        new = [f"param_groups[{k}] ({group.rule})" for k, (group, place) in enumerate(zip(self._groups, self._places))
               if place is None]
        if new and self._speaks and not self._told_of_new:
            warn(f"the checkpoint's schedulers did not know {', '.join(new)}, whose parameters were frozen or not there: "
                 "the learning rate begins at the configuration's")
        self._told_of_new = True

    def rescale(self, scheduler):
        """A restored scheduler's base rates, where the configuration's have changed since."""
        rates = getattr(scheduler, "base_lrs", None)
        if isinstance(rates, list) and len(rates) == len(self._groups):
            scheduler.base_lrs = [rate * group.lr_changed for rate, group in zip(rates, self._groups)]
        for part in getattr(scheduler, "_schedulers", []):
            self.rescale(part)

    def encode(self, param_groups):
        """What `_load` reads."""
        return state.encode([[group.number, group.rule, group.extras(torch_group)]
                             for group, torch_group in zip(self._groups, param_groups)])

    def set_lr_factor(self, param_groups, factor):
        for group, torch_group in zip(self._groups, param_groups):
            torch_group["lr"] = group.base_lr * factor

    def _check_form(self, param_groups):
        if len(param_groups) != len(self._groups):
            raise EquishardUsageError(f"param_groups has {len(param_groups)} groups, and had {len(self._groups)} when "
                                      "the optimizer was made: they are the configuration's, and fixed")
        for index, (group, members) in enumerate(zip(param_groups, self._members)):
            if len(group["params"]) != len(members) or not all(map(operator.is_, group["params"], members)):
                raise EquishardUsageError(f"param_groups[{index}]['params'] was changed: the parameters of a group are "
                                          "those that the configuration's `match` gives it")

    def send(self, param_groups):
        """Tell the library what was changed since the last step; it travels with the step's gradients."""
        self._check_form(param_groups)
        rate_changed = False
        for index, (group, torch_group) in enumerate(zip(self._groups, param_groups)):
            changes = group.changes(index, torch_group)
            if group.scheduled and ("lr" in changes or "initial_lr" in torch_group):
                raise EquishardUsageError(
                    f"param_groups[{index}]: the program or a scheduler of torch's changes the learning rate, and the "
                    f"configuration has `schedule: {{kind: {group.schedule}, ...}}`, which multiplies it: leave one of "
                    "them out")
            rate_changed = rate_changed or "lr" in changes
            if changes:
                group.set(torch_group, changes)
        if rate_changed:
            self._warn_of_one_rate({group.get("initial_lr") for group in param_groups})

    def _warn_of_one_rate(self, initial):
        """A scheduler that began with several rates may end all of them at one."""
        configured, now = {group.base_lr for group in self._groups}, {group.in_force["lr"] for group in self._groups}
        if self._flattened or len(configured) == 1 or len(now) > 1 or now == {0.0} or len(initial) > 1:
            return
        self._flattened = True
        if self._speaks:
            rates = ", ".join(f"{group.rule} {group.base_lr:g}" for group in self._groups)
            warnings.warn(f"equishard: all parameter groups have the same learning rate now, {now.pop():g}; the rates "
                          f"that the configuration has for its rules ({rates}) are lost. To multiply them by one "
                          "factor: optimizer.set_lr_factor(x)", stacklevel=2)

    def check_unchanged(self, param_groups):
        """After the first gradient of a step, whose settings went with it."""
        self._check_form(param_groups)
        for index, (group, torch_group) in enumerate(zip(self._groups, param_groups)):
            for setting in group.changes(index, torch_group):
                what = "a learning rate" if setting == "lr" else f"param_groups[{index}]: {setting}"
                raise EquishardUsageError(f"{what} was changed after the first gradient of the step was pushed: step "
                                          "the scheduler after optimizer.step()")


def parameter_group(handle):
    """(number of the group or -1, whether the restored checkpoint had the parameter, its steps there)."""
    description = _library.ParameterDescription()
    call("eqs_parameter_describe", handle, ctypes.byref(description))
    return description.group, bool(description.in_checkpoint), description.step
