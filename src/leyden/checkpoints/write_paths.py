"""Keep a checkpoint from another place from choosing where files are written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from leyden.errors import UserError


def check_write_paths(config: dict[str, Any], remembered: dict[str, Any], flags: list[str], files: list[str]) -> None:
    """Refuse a checkpoint whose own configuration would write files outside the run's directory.

    Args:
        config: The trainer's part of the configuration, before the run's directory is filled in.
        remembered: The same part of the checkpoint's configuration.
        flags: The user's own flags; a path in one of them is the user's choice.
        files: Each --config, a file or JSON; a path in one of them is the user's choice as well.

    Raises:
        UserError: It would; each path is named.
    """
    texts = [flag.partition("=")[2] if flag.startswith("-") else flag for flag in flags]
    texts += [Path(file).read_text(encoding="utf-8") if "{" not in file else file for file in files]
    chosen = {value for text in texts for _, value in _strings(_parsed(text))}
    from_checkpoint = {value for _, value in _strings(remembered)} - chosen
    paths = [
        f"{key} {value}" for key, value in _strings(config) if value in from_checkpoint and _is_write_path(key, value)
    ]
    if paths:
        raise UserError(
            f"the checkpoint is from elsewhere, and its configuration would write outside of the run: "
            f"{', '.join(paths)}; give the same in a --config of your own to allow that, or give others"
        )


def _parsed(text: str) -> Any:
    """Parse YAML or JSON; return text that is neither as it is."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _strings(value: Any, key: str = "trainer") -> Iterator[tuple[str, str]]:
    """Yield each string in a nested configuration with its dotted key, in which a class stands by its short name."""
    if isinstance(value, dict):
        key += f".{value['class_path'].rpartition('.')[2]}" if isinstance(value.get("class_path"), str) else ""
        for name, part in value.items():
            yield from _strings(part, key if name == "init_args" else f"{key}.{name}")
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part, key)
    elif isinstance(value, str):
        yield key, value


def _is_write_path(key: str, value: str) -> bool:
    """Return whether an option of the trainer names a folder, a file outside the run's directory, or an address."""
    if key.endswith("class_path"):
        return False
    names_folder = value != "" and key.endswith(("dir", "directory", "folder", "path"))
    return names_folder or value.startswith(("/", "~", "file:")) or "://" in value or ".." in Path(value).parts
