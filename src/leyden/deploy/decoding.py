"""Read image files ahead of the model that needs them."""

import os
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from leyden.data.image_files import BrokenImageError, ImageReader, Pixels, printable

AHEAD = 64  # images that are read before they are needed
MAX_THREADS = 8  # each may hold an image of MAX_PIXELS


class ImageFiles:
    """Iterate over image files and their pixels, (C, H, W); broken ones are named on stderr and counted.

    Pillow decodes and scales without the interpreter's lock, so threads read while the model computes.

    Args:
        names: The files.
        reader: How they are read.
        broken: {name: why it cannot be read} of further ones.
    """

    def __init__(self, names: list[str], reader: ImageReader, broken: dict[str, str]) -> None:
        self.names, self.reader = names, reader
        self.num_broken = 0
        for name, reason in broken.items():
            self._report(name, reason)

    def __iter__(self) -> Iterator[tuple[str, Pixels]]:
        for name, pixels in self._read_ahead():
            if isinstance(pixels, BrokenImageError):
                self._report(name, str(pixels))
            else:
                yield name, pixels

    def _read_ahead(self) -> Iterator[tuple[str, Pixels | BrokenImageError]]:
        waiting: deque[tuple[str, Future[Pixels | BrokenImageError]]] = deque()
        # threads that set and restore the filters of warnings at once may leave those of another
        with warnings.catch_warnings(), ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
            for name in self.names:
                waiting.append((name, pool.submit(self._read, name)))
                if len(waiting) > AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            for first, future in waiting:
                yield first, future.result()

    def _read(self, name: str) -> Pixels | BrokenImageError:
        try:
            return self.reader.read(name)
        except BrokenImageError as error:
            return error

    def _report(self, name: str, reason: str) -> None:
        self.num_broken += 1
        print(f"broken  {printable(name)}: {reason}", file=sys.stderr, flush=True)
