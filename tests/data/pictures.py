"""Folders of images for the tests."""

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}
SUFFIXES = ("png", "jpg", "webp", "bmp", "gif")


def picture(colour: str, seed: int, size: tuple[int, int] = (20, 16)) -> Image.Image:
    """A picture of one colour with noise, different for each seed."""
    noise = np.random.default_rng([seed, sorted(COLOURS).index(colour)]).integers(0, 50, (size[1], size[0], 3))
    return Image.fromarray((noise + np.array(COLOURS[colour])).astype(np.uint8))


def make_folder(root: Path, count: int = 10, first: int = 0) -> Path:
    """Pictures `first` to `first + count` of each class, in different formats and sizes, a folder each."""
    for colour in COLOURS:
        (root / colour).mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + count):
            suffix = SUFFIXES[seed % len(SUFFIXES)]
            picture(colour, seed, (16 + seed % 7, 16)).save(root / colour / f"{seed}.{suffix}")
    return root
