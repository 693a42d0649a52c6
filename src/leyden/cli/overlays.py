"""Refuse overlays that contradict each other."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from leyden.errors import UserError


def check_overlays(configs: list[str]) -> None:
    """Refuse two overlays that set one option to different values: the later would switch off the earlier silently.

    Args:
        configs: The files of `--config`; those in a folder `with` are overlays.

    Raises:
        UserError: Two of them contradict each other.
    """
    files = [Path(config) for config in configs if Path(config).parent.name == "with"]
    try:
        overlays = [(file, dict(_options(yaml.safe_load(file.read_text(encoding="utf-8"))))) for file in files]
    except yaml.YAMLError:
        return  # which the parser explains
    for (one, options), (other, others) in combinations(overlays, 2):
        for name, value in options.items():
            if others.get(name, value) != value:
                raise UserError(
                    f"the overlays {one} and {other} both set {name}, to {value} and {others[name]}: leave "
                    "one of them out"
                )


def _options(part: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the options that a file sets; those that append to a list (`callbacks+`) contradict nothing."""
    if isinstance(part, dict):
        for key, value in part.items():
            yield from _options(value, f"{name}.{key}" if name else str(key))
    elif not name.endswith("+"):
        yield name.replace(".init_args", "").removesuffix(".class_path"), part
