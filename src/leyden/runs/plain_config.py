"""Convert the configuration of a run to plain data from which it can be read back unchanged."""

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
    """Return a configuration as it is stored in `config.yaml` and in checkpoints.

    Defaults that YAML cannot express, such as the `partial` of torchvision's vision transformers, are omitted: they
    are defaults for the reader as well.

    Args:
        parser: The parser of the subcommand.
        config: The parsed configuration.

    Raises:
        UserError: A value does not read back unchanged, so no checkpoint of the run could be loaded.
    """
    _enums_to_strings(config)
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
    """Return what does not read back unchanged, as a clause of an error message; empty if all does."""
    try:
        back = parser.parse_object(yaml.safe_load(yaml.safe_dump(plain)), defaults=False)
    except Exception as error:  # whatever the types of the classes raise
        return f"the configuration cannot be read back from config.yaml ({' '.join(str(error).split())})"
    option = _first_difference(plain, _dump(parser, back))
    return f"{option} reads back from config.yaml as another value" if option else ""


def _enums_to_strings(value: Any) -> Any:
    """Replace string enumerations by their strings, for YAML: `Timer` has one as a default."""
    if isinstance(value, Namespace):
        vars(value).update({name: _enums_to_strings(part) for name, part in vars(value).items()})
    elif isinstance(value, list):
        return [_enums_to_strings(part) for part in value]
    return value.value if isinstance(value, str) and isinstance(value, Enum) else value


def _dump(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f"\\s*{UNWRITABLE}")
        text = parser.dump(config, skip_unset=False, skip_validation=True, format="json")
    plain: dict[str, Any] = json.loads(text)
    plain.pop("ckpt_path", None)
    return _writable(plain, config.as_dict()) if UNWRITABLE in text else plain


def _writable(plain: Any, value: Any) -> Any:
    """Restore strings that jsonargparse could not write, and omit other objects.

    A user can give only strings, numbers and classes, so any other object is a default.
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
    """Omit classes and functions that are defaults: read back, they would require arguments."""
    if isinstance(plain, list):
        return [_without_default_classes(*pair) for pair in zip(plain, value, strict=True)]
    if not isinstance(plain, dict) or not isinstance(value, dict):
        return plain
    kept = {name: _without_default_classes(part, value.get(name)) for name, part in plain.items()}
    if isinstance(kept.get("init_args"), dict):
        module, _, name = plain["class_path"].rpartition(".")
        defaults = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        args = value["init_args"]
        kept["init_args"] = {
            name: part
            for name, part in kept["init_args"].items()
            if not (callable(args[name]) and name in defaults and args[name] is defaults[name].default)
        }
    return kept


def _first_difference(one: Any, other: Any, key: str = "") -> str:
    """Return the first option in which two configurations differ; empty if they are equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        parts = ((f"{key}.{name}".lstrip("."), one.get(name), other.get(name)) for name in {**one, **other})
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = ((key, *pair) for pair in zip(one, other, strict=True))
    else:
        same = one == other or (one in (None, {}) and other in (None, {}))  # two ways to write no arguments
        return "" if same else key
    return next(filter(None, (_first_difference(a, b, name) for name, a, b in parts)), "")
