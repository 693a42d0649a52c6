"""The images of a folder, read once: their pixels in a file that is mapped into memory, and a manifest beside it."""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.progress import track
from torch import Tensor

from leyden.data.cache import building, cache_folder, cache_key, map_array
from leyden.data.image_files import ImageReader, Pixels, printable
from leyden.data.image_search import State
from leyden.data.image_table import ImageTable, Row, read_table
from leyden.data.image_workers import ParallelReaders, examine
from leyden.durable import sync_folder
from leyden.errors import RunError, UserError

VERSION = 1  # of the format, and of how images are read; another one makes new caches
CHUNK_IMAGES, CHUNK_BYTES = 1024, 2**26  # at most, between two points where an interrupted cache can go on


class ImageCache:
    """Read all images of a folder once, in parallel processes; later runs start from what they have written.

    The cache is complete or not there at all. If files change, only those are read again. After an interruption it
    goes on where it was, and ends in the same bytes.

    Args:
        root: The folder.
        reader: How the images are read.
        keep_pixels: Whether to keep the pixels. Without, the images are read once, to find the broken ones.
    """

    def __init__(self, root: Path, reader: ImageReader, keep_pixels: bool) -> None:
        self.root, self.reader, self.keep_pixels = root, reader, keep_pixels
        options = (VERSION, str(root.resolve()), reader.channels, reader.image_size, reader.resize, keep_pixels)
        self.folder = cache_folder() / f"images-{cache_key(*options)}"
        self.manifest = self.folder / "manifest.jsonl"  # the name of the file with the pixels, then the rows
        self.shape = (reader.channels, reader.image_size, reader.image_size)
        self.image_bytes = reader.channels * reader.image_size**2 if keep_pixels else 0

    def table(self, files: dict[str, State]) -> ImageTable:
        """Return the table of these files, after reading those that are new or have changed.

        Args:
            files: {name relative to the folder: state}, sorted by name.

        Raises:
            UserError: The cache cannot be written.
            RunError: A process that reads images has died.
        """
        table = self._current(files)
        if table is not None:
            return table
        try:
            with building(self.folder):
                table = self._current(files)  # another process may have written it meanwhile
                if table is None:
                    self._build(files)
                    table = read_table(self.manifest)
        except OSError as error:
            raise UserError(
                f"cannot write the cache {self.folder} ({error.strerror or error}): set the environment variable "
                "LEYDEN_CACHE to another folder"
            ) from error
        return table

    def pixels(self, table: ImageTable) -> Tensor:
        """Return the pixels of the images that are not broken, (N, C, H, W) of uint8, mapped into memory."""
        return map_array(table.pixels, np.uint8, (len(table.good), *self.shape))

    def _current(self, files: dict[str, State]) -> ImageTable | None:
        """Return the table that is on disk, if it is that of these files."""
        if not self.manifest.exists():
            return None
        table = read_table(self.manifest)
        if [(row.name, row.state) for row in table.rows] != list(files.items()):
            return None
        # their state does not show whether they have become readable
        broken = (row.name for row in table.rows if row.reason)
        return table if all(examine(self.root, self.reader, False, name)[0].reason for name in broken) else None

    def _build(self, files: dict[str, State]) -> None:
        """Write the manifest and the pixels; both have other names until they are complete."""
        self.folder.mkdir(exist_ok=True)
        old = read_table(self.manifest) if self.manifest.exists() else None
        names = ["pixels-a.bin", "pixels-b.bin"]
        pixels_path = self.folder / names[old is not None and old.pixels.name == names[0]]
        part = self.folder / "part.jsonl"
        done = self._resume(part, pixels_path, files)
        missing = list(files)[done:]
        self._check_space(len(missing))
        with part.open("a", encoding="utf-8") as manifest, pixels_path.open("ab") as pixels_file:
            for rows, images in self._read_images(missing, files, old):
                pixels_file.writelines(image.tobytes() for image in images)
                _flush(pixels_file)  # before the rows that say so
                manifest.writelines(json.dumps(row) + "\n" for row in rows)
                _flush(manifest)
        part.replace(self.manifest)
        sync_folder(self.folder)
        if old is not None:
            old.pixels.unlink()  # processes that have mapped it keep it

    def _resume(self, part: Path, pixels_path: Path, files: dict[str, State]) -> int:
        """Return how many of the files an interrupted process has read, and cut off what follows them."""
        rows: list[Row] = []
        size = 0
        if part.exists() and b"\n" in part.read_bytes() and pixels_path.exists():
            available = pixels_path.stat().st_size
            for row, file in zip(read_table(part).rows, files.items(), strict=False):
                row_size = 0 if row.reason else self.image_bytes
                if (row.name, row.state) != file or size + row_size > available:
                    break
                rows.append(row)
                size += row_size
        part.write_text("".join(json.dumps(line) + "\n" for line in (pixels_path.name, *rows)), encoding="utf-8")
        with pixels_path.open("ab") as pixels_file:
            pixels_file.truncate(size)
        return len(rows)

    def _read_images(
        self, names: Sequence[str], files: dict[str, State], old: ImageTable | None
    ) -> Iterator[tuple[list[Row], list[Pixels]]]:
        """Yield the rows of some files at a time, and the pixels of those that are not broken.

        Raises:
            RunError: A process that reads them has died.
        """
        before = enumerate(old.good) if old else ()
        known = {row.name: (row, i) for i, row in before if files.get(row.name) == row.state}
        stored = self.pixels(old).numpy() if old and self.keep_pixels else None
        size = min(CHUNK_IMAGES, max(1, CHUNK_BYTES // max(1, self.image_bytes)))
        count = sum(name not in known for name in names)
        if count:
            print(f"data  reading {count:,} images of {self.root}", flush=True)
        steps = track(range(0, len(names), size), "", transient=True, disable=not sys.stdout.isatty())
        with ParallelReaders(self.root, self.reader, self.keep_pixels, count) as readers:
            for start in steps:
                chunk = names[start : start + size]
                answers = readers.map([name for name in chunk if name not in known])
                rows, images = [], []
                for name in chunk:
                    if name in known:
                        row, i = known[name]
                        image = None if stored is None else stored[i]
                    else:
                        try:
                            examined, image = next(answers)
                        except BrokenProcessPool as error:
                            raise RunError(
                                f"a process that reads images died at {printable(name)} or soon after it: it was "
                                "killed, for lack of memory or by a fault of the decoder; start again to go on there"
                            ) from error
                        row = Row(name, files[name], *examined)
                    rows.append(row)
                    if image is not None:
                        images.append(image)
                yield rows, images

    def _check_space(self, count: int) -> None:
        free, needed = shutil.disk_usage(self.folder).free, count * self.image_bytes
        if needed > free:
            raise UserError(
                f"the cache of {self.root} needs {needed / 1e9:.1f} GB in {self.folder.parent}, which has "
                f"{free / 1e9:.1f}: set the environment variable LEYDEN_CACHE to another folder, or a smaller "
                "--data.image_size, or --data.cache false"
            )


def _flush(file: IO[Any]) -> None:
    """Write what a file has buffered to the disk."""
    file.flush()
    os.fsync(file.fileno())
