"""The manifest of a folder of images: what is known of each file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from leyden.data.image_search import State


class Row(NamedTuple):
    """One file in the manifest."""

    name: str  # relative to the folder
    state: State
    digest: str
    sums: list[list[int]]
    reason: str


@dataclass(frozen=True)
class ImageTable:
    """The images of a folder.

    Args:
        rows: One for each file, sorted by name; the fields of `Examined` with the file's name and state.
        pixels: The file with the pixels of those that are not broken, in their order; empty if they are not kept.
    """

    rows: list[Row]
    pixels: Path

    @property
    def good(self) -> list[Row]:
        """The images that are not broken."""
        return [row for row in self.rows if not row.reason]


def read_table(manifest: Path) -> ImageTable:
    """Read a manifest, without an incomplete last line.

    Args:
        manifest: The file: the name of the file with the pixels, which is beside it, then a row in each line.
    """
    text = manifest.read_text(encoding="utf-8")
    name, *rows = json.loads(f"[{','.join(text[: text.rfind(chr(10))].splitlines())}]")
    return ImageTable([Row(row[0], (row[1][0], row[1][1]), *row[2:]) for row in rows], manifest.with_name(name))
