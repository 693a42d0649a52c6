"""A nested configuration as {option: value}."""

from typing import Any


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {option: value} of a nested configuration; options go as on the command line, lists stay whole."""
    options: dict[str, Any] = {}
    for key, value in config.items():
        option = prefix if key == "init_args" else f"{prefix}.{key}".lstrip(".")
        options |= flat(value, option) if isinstance(value, dict) else {option: value}
    return options
