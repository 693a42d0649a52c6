"""The configuration of a run as plain data, which must read back as it was."""

import importlib
import inspect
import json
import warnings
from enum import Enum
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace

from leyden.errors import UserError

UNWRITABLE = "Unable to serialize instance"  # jsonargparse writes this, and warns, where it cannot write a value


def plain_config(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    """Return a configuration as `config.yaml` and the checkpoints hold it.

    Defaults that YAML cannot hold, such as the `partial` of torchvision's vision transformers, are left out: whoever
    reads the configuration has them too.

    Args:
        parser: The parser of the subcommand.
        config: What it has parsed.

    Raises:
        UserError: A value does not read back as it was, so no checkpoint of the run could be loaded.
    """
    _spell_out(config)
    plain = _dump(parser, config)
    if fault := _fault(parser, plain):
        plain = _without_default_classes(plain, config.as_dict())
        fault = _fault(parser, plain)
    if fault:
        raise UserError(
            f"{fault}, so no checkpoint of this run could be loaded: give it as a number, a string, or a class by "
            "class_path"
        )
    return plain


def _fault(parser: ArgumentParser, plain: dict[str, Any]) -> str:
    """Say what of a configuration does not read back; empty where all does."""
    try:
        back = parser.parse_object(yaml.safe_load(yaml.safe_dump(plain)), defaults=False)
    except Exception as error:  # of whatever the classes' own types raise
        return f"the configuration cannot be read back from config.yaml ({' '.join(str(error).split())})"
    option = _first_difference(plain, _dump(parser, back))
    return f"{option} reads back from config.yaml as another value" if option else ""


def _spell_out(value: Any) -> Any:
    """Replace each enumeration of strings by its string, which YAML can hold: `Timer` has one as a default."""
    if isinstance(value, Namespace):
        vars(value).update({name: _spell_out(part) for name, part in vars(value).items()})
    elif isinstance(value, list):
        return [_spell_out(part) for part in value]
    return value.value if isinstance(value, str) and isinstance(value, Enum) else value


def _dump(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f"\\s*{UNWRITABLE}")
        text = parser.dump(config, skip_unset=False, skip_validation=True, format="json")
    plain: dict[str, Any] = json.loads(text)
    plain.pop("ckpt_path", None)
    return _writable(plain, config.as_dict()) if UNWRITABLE in text else plain


def _writable(plain: Any, value: Any) -> Any:
    """Put back strings that jsonargparse did not write, and leave out what is a default.

    Nothing but strings, numbers and classes can be given, so any other object is the default of its argument.
    """
    if isinstance(plain, dict) and isinstance(value, dict):
        kept = {}
        for name, part in plain.items():
            if not isinstance(part, str) or not part.startswith(UNWRITABLE):
                kept[name] = _writable(part, value.get(name))
            elif isinstance(value[name], str):
                kept[name] = value[name]
        return kept
    if isinstance(plain, list):
        return [_writable(*pair) for pair in zip(plain, value, strict=True)]
    return plain


def _without_default_classes(plain: Any, value: Any) -> Any:
    """Leave out classes and functions that are defaults: read back, they would want arguments of their own."""
    if isinstance(plain, list):
        return [_without_default_classes(*pair) for pair in zip(plain, value, strict=True)]
    if not isinstance(plain, dict) or not isinstance(value, dict):
        return plain
    kept = {name: _without_default_classes(part, value.get(name)) for name, part in plain.items()}
    if isinstance(kept.get("init_args"), dict):
        module, _, name = plain["class_path"].rpartition(".")
        defaults = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        given = value["init_args"]
        kept["init_args"] = {
            name: part
            for name, part in kept["init_args"].items()
            if not (callable(given[name]) and name in defaults and given[name] is defaults[name].default)
        }
    return kept


def _first_difference(one: Any, other: Any, key: str = "") -> str:
    """Return the option at which two configurations differ first; empty where they do not."""
    if isinstance(one, dict) and isinstance(other, dict):
        parts = ((f"{key}.{name}".lstrip("."), one.get(name), other.get(name)) for name in {**one, **other})
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = ((key, *pair) for pair in zip(one, other, strict=True))
    else:
        same = one == other or (one in (None, {}) and other in (None, {}))  # no arguments, in two ways
        return "" if same else key
    return next(filter(None, (_first_difference(a, b, name) for name, a, b in parts)), "")
