"""Image files are read ahead in threads, and come in their order."""

import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from leyden.data.image_files import BrokenImageError, ImageReader, Pixels
from leyden.deploy import decoding
from leyden.deploy.decoding import ImageFiles


class Slow(ImageReader):
    """Takes longest for the first files, and notes what it has read."""

    started: list[str] = []  # noqa: RUF012

    def read(self, path: str | Path) -> Pixels:
        """Return the number that the name is."""
        self.started.append(str(path))
        time.sleep(0.05 / (1 + int(path)))
        if str(path) == "3":
            raise BrokenImageError("no image")
        return np.full((1, 1, 1), int(path), np.uint8)


def test_files_come_in_their_order_and_broken_ones_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    filters = list(warnings.filters)
    files = ImageFiles([str(i) for i in range(8)], Slow(1, 1), {"a\nb": "a link to a folder above it"})
    assert [(name, int(pixels.item())) for name, pixels in files] == [(str(i), i) for i in range(8) if i != 3]
    assert files.num_broken == 2
    assert capfd.readouterr().err == "broken  a\\nb: a link to a folder above it\nbroken  3: no image\n"
    assert warnings.filters == filters


def test_no_more_files_than_allowed_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "AHEAD", 5)
    monkeypatch.setattr(Slow, "started", [])
    images = iter(ImageFiles([str(i) for i in range(10, 50)], Slow(1, 1), {}))
    next(images)
    time.sleep(0.3)
    assert 1 < len(Slow.started) <= 6
    assert len(list(images)) == 39
