"""The configuration as a program gives it: the path of a file, YAML text or a dict; and keys that win over it."""

import collections.abc
import json
import os

from ._library import EquishardUsageError, call


def _is_text(config):
    """Whether a str is YAML and no path."""
    return "\n" in config or ": " in config or config.lstrip().startswith("{")


def _to_text(value, what):
    """JSON is YAML."""
    def other(item):
        if isinstance(item, os.PathLike):
            return os.fspath(item)
        if hasattr(item, "item"):  # a scalar of numpy or torch
            return item.item()
        raise TypeError(f"{item!r:.80}")

    try:
        return json.dumps(value, indent=2, ensure_ascii=False, default=other)
    except (TypeError, ValueError) as error:
        raise EquishardUsageError(f"{what}: what is no number, text, list or dict: {error}") from None


def _overridden(config, overrides):
    """One text: the keys of `overrides`, then those of `config`."""
    if not isinstance(overrides, collections.abc.Mapping):
        raise EquishardUsageError(f"overrides is a {type(overrides).__name__}; a dict of the configuration's keys is "
                                  "needed")
    if isinstance(config, collections.abc.Mapping):
        return _merged(config, overrides)
    if isinstance(config, str) and _is_text(config):
        raise EquishardUsageError("overrides are for a configuration in a file or a dict: write the keys into the text")
    included = overrides.get("include", [])
    included = [included] if isinstance(included, (str, os.PathLike)) else list(included)
    return {**overrides, "include": included + [os.path.abspath(os.fsdecode(config))]}


def _merged(config, overrides):
    """`checkpoint` and `metrics` key by key, the groups of both, all else the override's; as with a file."""
    merged = {**config, **overrides}
    for key in ("checkpoint", "metrics", "defaults", "roles"):
        if all(isinstance(part.get(key), collections.abc.Mapping) for part in (config, overrides)):
            merged[key] = {**config[key], **overrides[key]}
    if "groups" in config and "groups" in overrides:
        merged["groups"] = list(overrides["groups"]) + list(config["groups"])
    return merged


def open_session(communicator, config, overrides, session):
    """eqs_session_open with whatever the program gave."""
    if config is None:
        raise EquishardUsageError("no configuration is given: Optimizer(model, config), the path of a YAML file, its text "
                                  "or a dict")
    if not isinstance(config, (str, bytes, os.PathLike, collections.abc.Mapping)):
        raise EquishardUsageError(f"the configuration is a {type(config).__name__}: give the path of a YAML file, its "
                                  "text or a dict")
    name = b"configuration"
    if overrides:
        config = _overridden(config, overrides)
        name = b"configuration with overrides"
    if isinstance(config, collections.abc.Mapping):
        config = _to_text(dict(config), "configuration")
    elif not (isinstance(config, str) and _is_text(config)):
        call("eqs_session_open", communicator, os.fsencode(config), session)
        return
    call("eqs_session_open_text", communicator, config.encode(), name, session)
