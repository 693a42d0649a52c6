"""Reads pictures of batches back."""

from pathlib import Path

import numpy as np
from PIL import Image

from leyden.callbacks import image_grid
from leyden.cli.batch_picture import COLUMNS


def images_in(file: Path, count: int, side: int, text_lines: int) -> list[np.ndarray]:
    """The images in a picture of square images, each reduced to its own size."""
    picture = np.asarray(Image.open(file).convert("RGB"))
    scale = round(image_grid.SIDE / side)
    size, found = scale * side, []
    for i in range(count):
        line, column = divmod(i, COLUMNS)
        left = image_grid.GAP + column * (size + image_grid.GAP)
        first = image_grid.TITLE + image_grid.LINE * text_lines
        top = first + line * (size + image_grid.GAP + image_grid.LINE * text_lines)
        cut = picture[top : top + size, left : left + size]
        found.append(cut[::scale, ::scale])
        assert np.array_equal(cut, np.kron(found[-1], np.ones((scale, scale, 1), np.uint8)))
    return found
