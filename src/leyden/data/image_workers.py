"""What the processes do that read images for the cache. Imported without torch, so that they start at once."""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from leyden.data.image_files import BrokenImageError, ImageReader, Pixels, read_file

IN_PROCESS = 64  # so few images are not worth starting processes


class Examined(NamedTuple):
    """What reading a file has shown."""

    digest: str  # of the content; empty if it cannot be read
    sums: list[list[int]]  # of the pixels and of their squares, for each channel; empty for a broken image
    reason: str  # why it is broken; empty if it is not


def examine(root: Path, reader: ImageReader, keep_pixels: bool, name: str) -> tuple[Examined, Pixels | None]:
    """Read one file.

    Args:
        root: The folder of the images.
        reader: How they are read.
        keep_pixels: Whether to return the pixels, (C, H, W).
        name: The file, relative to the folder.
    """
    digest = ""
    try:
        content = read_file(root / name)
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        pixels = reader.decode(content)
    except BrokenImageError as error:
        return Examined(digest, [], str(error)), None
    values = pixels.astype(np.int64)
    sums = [values.sum((1, 2)).tolist(), (values**2).sum((1, 2)).tolist()]
    return Examined(digest, sums, ""), pixels if keep_pixels else None


class ParallelReaders:
    """Examine files in one process per core, or in this process if there are few of them.

    Args:
        root, reader, keep_pixels: As for `examine`.
        count: How many files there will be.
    """

    def __init__(self, root: Path, reader: ImageReader, keep_pixels: bool, count: int) -> None:
        self.examine = partial(examine, root, reader, keep_pixels)
        self.pool: ProcessPoolExecutor | None = None
        if count > IN_PROCESS:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            # not forked: the locks that threads of this process hold would be copied
            self.pool = ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), initializer=_start)

    def map(self, names: list[str]) -> Iterator[tuple[Examined, Pixels | None]]:
        """Return what `examine` returns for each file, in order."""
        return map(self.examine, names) if self.pool is None else self.pool.map(self.examine, names, chunksize=16)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


def _start() -> None:
    """Leave Ctrl-C to the process that started this one, and end when that one does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
