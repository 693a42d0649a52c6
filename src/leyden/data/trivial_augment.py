"""TrivialAugment: one random operation for each image, with a random strength."""

from collections.abc import Callable

import torch
from torch import Tensor

from leyden.data.color_jitter import adjust_brightness, adjust_contrast, adjust_saturation, adjust_sharpness
from leyden.data.transforms import RandomTransform, affine

STRENGTHS = 31  # levels, of which the lowest changes nothing
LARGEST_CHANGE = 0.99  # of the factors of brightness, colour, contrast and sharpness, and the largest shear
LARGEST_SHIFT = 32.0  # pixels
LARGEST_ANGLE = 135.0  # degrees
FEWEST_BITS = 2  # a pixel keeps 8 to 2 bits
MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def _posterize(x: Tensor, strength: Tensor) -> Tensor:
    lost_bits = ((8 - FEWEST_BITS) * strength.abs()).round()
    return x & (256 - 2**lost_bits).to(torch.uint8)


def _solarize(x: Tensor, strength: Tensor) -> Tensor:
    return torch.where(x >= 255 * (1 - strength.abs()), 255 - x, x)


def _autocontrast(x: Tensor, _: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional  # takes time, and few runs need it

    stretched: Tensor = functional.autocontrast(x)  # each channel of each image by itself
    return stretched


def _equalize(x: Tensor, _: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    flattened: Tensor = functional.equalize(x)
    return flattened


COLORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": lambda x, strength: adjust_brightness(x, 1 + LARGEST_CHANGE * strength),
    "color": lambda x, strength: adjust_saturation(x, 1 + LARGEST_CHANGE * strength),
    "contrast": lambda x, strength: adjust_contrast(x, 1 + LARGEST_CHANGE * strength),
    "sharpness": lambda x, strength: adjust_sharpness(x, 1 + LARGEST_CHANGE * strength),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
OPERATIONS = ("identity", *MOVES, *COLORS)


class TrivialAugment(RandomTransform):
    """Change each uint8 image by one of 14 operations with a random strength (Müller and Hutter, 2021).

    The wide space of the paper, which has nothing to tune: identity; shear, shift and rotation, by the nearest pixel,
    with zeros outside of the image; brightness, colour, contrast and sharpness; posterize, solarize, autocontrast and
    equalize. Images are grey or RGB.
    """

    full_range = True

    def draw(self, x: Tensor) -> Tensor:
        """Return the index of the operation and the strength in 30ths, with a random sign, (B, 2) of int64."""
        operation = torch.randint(len(OPERATIONS), (len(x),), device=x.device)
        level = torch.randint(STRENGTHS, (len(x),), device=x.device)
        sign = 2 * torch.randint(2, (len(x),), device=x.device) - 1
        return torch.stack([operation, sign * level], dim=1)

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Change images by `params`, (B, 2)."""
        y, operation, strength = x.clone(), params[:, 0], params[:, 1] / (STRENGTHS - 1)
        rows = ((operation > 0) & (operation <= len(MOVES))).nonzero().squeeze(1)
        if len(rows):
            y.index_copy_(0, rows, _move(x.index_select(0, rows), operation[rows], strength[rows]))
        for name, change in COLORS.items():
            rows = (operation == OPERATIONS.index(name)).nonzero().squeeze(1)
            if len(rows):
                y.index_copy_(0, rows, change(x.index_select(0, rows), strength[rows, None, None, None]))
        return y


def _move(x: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
    """Shear from the left or upper edge, shift by whole pixels, or rotate anticlockwise about the centre."""
    height, width = x.shape[-2:]
    amounts = (LARGEST_CHANGE, LARGEST_CHANGE, LARGEST_SHIFT, LARGEST_SHIFT, LARGEST_ANGLE)
    shear_x, shear_y, right, down, angle = (
        torch.where(operation == OPERATIONS.index(name), amount * strength, 0.0)
        for name, amount in zip(MOVES, amounts, strict=True)
    )
    cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
    source = [
        [cos, shear_x - sin, shear_x * height / 2 - right.trunc()],
        [shear_y + sin, cos, shear_y * width / 2 - down.trunc()],
    ]
    return affine(x, source, "nearest")
