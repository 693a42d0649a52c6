"""Embed the pictures of a run into the page, as long as there is room for them."""

import base64
from dataclasses import dataclass
from pathlib import Path

ROOM = 2_000_000  # characters for all pictures of a page: with bokeh's 1.3 MB and the curves it stays below 5 MB


@dataclass
class Picture:
    """A picture of a run.

    Args:
        name: The file's name.
        title: The heading above it.
        alt: What it shows, for who cannot see it.
        source: The picture as a `data:` address; empty if there was no room for it.
        size: Size of the file in bytes.
    """

    name: str
    title: str
    alt: str
    source: str
    size: int


class PictureReader:
    """Read pictures until the room of the page is used up; later ones are named without being shown."""

    def __init__(self) -> None:
        self.room = ROOM

    def read(self, file: Path, title: str, alt: str) -> list[Picture]:
        """Return the picture as a list of one, or an empty list if the run does not have it.

        Raises:
            OSError: The file cannot be read.
        """
        if not file.is_file():
            return []
        size = file.stat().st_size
        source = ""
        if 4 * size <= 3 * self.room:  # base64 writes 3 bytes as 4 characters
            source = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
            self.room -= len(source)
        return [Picture(file.name, title, alt, source, size)]
