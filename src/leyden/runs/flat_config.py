"""Nested configurations as {option: value}, and what differs between them."""

from collections.abc import Mapping
from typing import Any


def flat(config: Mapping[str, Any], prefix: str = "", split_lists: bool = False) -> dict[str, Any]:
    """Return {option: value} of a nested configuration, with options as on the command line.

    Args:
        config: The configuration as plain data.
        prefix: Option under which `config` stands; empty at the top.
        split_lists: Flatten lists of classes too: `trainer.callbacks.ModelCheckpoint.monitor`. Of two entries with the
            same class only the last remains. By default a list is one value.
    """
    options: dict[str, Any] = {}
    for key, value in config.items():
        option = prefix if key == "init_args" else f"{prefix}.{key}".lstrip(".")
        if split_lists and isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
            value = {part.get("class_path", "").rpartition(".")[2]: part for part in value}
        options |= flat(value, option, split_lists) if isinstance(value, dict) else {option: value}
    return options


def different_options(*configs: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return {option: its value in each flat configuration} of the options that are not equal in all.

    An option that a configuration lacks is None there.
    """
    options = dict.fromkeys(option for config in configs for option in config)
    values = {option: tuple(config.get(option) for config in configs) for option in options}
    return {option: row for option, row in values.items() if any(value != row[0] for value in row)}
