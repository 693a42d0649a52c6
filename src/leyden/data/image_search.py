"""Find the image files in a folder."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from leyden.data.image_files import SUFFIXES

State = tuple[int, int]  # size of a file in bytes, time of its last change in ns


@dataclass
class Found:
    """What is in a folder.

    Args:
        files: {name relative to the folder: state} of the images, sorted by name.
        broken: {name: why it cannot be read}.
        ignored: Number of other files, by suffix; `hidden` for those whose name begins with a dot.
    """

    files: dict[str, State] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)


def find_images(folder: Path) -> Found:
    """Find the images in a folder and all folders below it, by their suffix, sorted by name.

    Links are followed. A link that leads back to a folder above it is broken.

    Raises:
        OSError: The folder itself cannot be read.
    """
    found = Found()
    _search(folder, "", (os.path.realpath(folder),), found)
    found.files = dict(sorted(found.files.items()))
    found.broken = dict(sorted(found.broken.items()))
    return found


def _search(folder: Path, prefix: str, above: tuple[str, ...], found: Found) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            try:
                if entry.name.startswith("."):  # among them the `._name.jpg` of macOS, which are no images
                    found.ignored["hidden"] += 1
                elif entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real in above:
                        found.broken[name] = "a link to a folder above it"
                    else:
                        _search(Path(entry.path), f"{name}/", (*above, real), found)
                elif (suffix := Path(entry.name).suffix.lower()) in SUFFIXES:
                    status = entry.stat()
                    found.files[name] = (status.st_size, status.st_mtime_ns)
                else:
                    found.ignored[suffix or "no suffix"] += 1
            except OSError as error:
                found.broken[name] = f"cannot be read: {error.strerror or error}"
