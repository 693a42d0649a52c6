"""Mean and standard deviation of images: as numbers, by name, or measured."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from leyden.data.image_batches import constant

Constant = float | Sequence[float] | Literal["measure", "imagenet"]
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # R, G, B, as torchvision's weights expect


def given_constant(name: str, value: float | Sequence[float] | Literal["imagenet"], channels: int) -> Tensor:
    """Return a constant as (C, 1, 1) or (1, 1, 1).

    Args:
        name: `mean` or `std`.
        value: Numbers or a name.
        channels: Number of channels; grey images take the mean of ImageNet's three numbers.
    """
    if value == "imagenet":
        return constant(IMAGENET[name] if channels == 3 else sum(IMAGENET[name]) / 3)
    return constant(value)


def measured_constants(sums: Sequence[Sequence[Sequence[int]]], pixels: int) -> dict[str, Tensor]:
    """Return the mean and the standard deviation of images, each (C, 1, 1), rounded to four digits.

    Args:
        sums: For each of N images the sums of its pixels and of their squares, (N, 2, C).
        pixels: Number of pixels of an image.
    """
    totals = np.array(sums, dtype=np.float64).sum(0) / (len(sums) * pixels)  # (2, C)
    mean = totals[0] / 255
    std = np.sqrt(np.maximum(totals[1] / 255**2 - mean**2, 0))
    return {name: constant(value.round(4).tolist()) for name, value in (("mean", mean), ("std", std))}
