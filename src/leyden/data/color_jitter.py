"""Random changes of brightness, contrast, saturation and hue, and the functions that change them.

The functions take images (B, C, H, W) of uint8, grey or RGB, and a number for each image, (B, 1, 1, 1). They compute as
torchvision's functions of one image do, which cut fractions off.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from leyden.data.transforms import RandomTransform
from leyden.errors import UserError

LUMA = (0.2989, 0.587, 0.114)  # weights of R, G and B in the brightness of a pixel, ITU-R BT.601


def _grey(x: Tensor) -> Tensor:
    """Return the brightness of each pixel as float32, (B, 1, H, W)."""
    if x.shape[1] == 1:
        return x.float()
    r, g, b = x[:, :, None].unbind(1)
    return (r * LUMA[0]).add_(g, alpha=LUMA[1]).add_(b, alpha=LUMA[2]).floor_()


def _blend(x: Tensor, base: Tensor, factor: Tensor) -> Tensor:
    """Return base + factor (x - base), without leaving 0 to 255: 0 gives the base, 1 the image, 2 exaggerates it."""
    return torch.lerp(base, x.float(), factor).clamp_(0, 255).to(torch.uint8)


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the pixels by a factor."""
    return (x * factor).clamp_(0, 255).to(torch.uint8)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the difference of each pixel from the mean brightness of its image by a factor."""
    return _blend(x, _grey(x).mean(dim=(1, 2, 3), keepdim=True), factor)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the difference of each pixel from its brightness by a factor; grey images stay the same."""
    return x if x.shape[1] == 1 else _blend(x, _grey(x), factor)


def adjust_sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the difference of each pixel from a smoothed image by a factor; the pixels at the edge stay the same."""
    if min(x.shape[-2:]) < 3:
        return x
    base = x.float()
    rows = base[..., :-2] + base[..., 1:-1] + base[..., 2:]
    box = rows[..., :-2, :] + rows[..., 1:-1, :] + rows[..., 2:, :]
    inner = base[..., 1:-1, 1:-1]
    inner.copy_(box.add_(inner, alpha=4).div_(13).round_())  # the centre counts 5, its neighbours 1
    return _blend(x, base, factor)


def adjust_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the colour circle by a fraction of a turn, -0.5 to 0.5; grey images stay the same.

    The hue of HSV (Smith, 1978), in sixths of a turn: red is 0, green 2, blue 4.
    """
    if x.shape[1] == 1:
        return x
    r, g, b = x.float().unbind(1)  # each (B, H, W)
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    is_red, is_green = value == r, value == g
    difference = torch.where(is_red, g - b, torch.where(is_green, b - r, r - g))
    offset = torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0))
    hue = difference.div_(chroma.clamp(min=1)).add_(offset).add_(6 * turn[:, 0])  # of grey pixels, any
    y = torch.empty_like(x)
    for channel, start in enumerate((5, 3, 1)):
        # a channel falls from the value by the chroma, and rises again, over four sixths of the circle
        sixths = (hue + (start + 6)).div_(6).frac_().mul_(6)  # 6 more, as frac_ keeps the sign
        y[:, channel] = (value - torch.minimum(sixths, 4 - sixths).clamp_(0, 1).mul_(chroma)).round_()
    return y


ADJUSTMENTS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_hue,
)


class ColorJitter(RandomTransform):
    """Change brightness, contrast, saturation and hue of uint8 images by random factors, in random order.

    Args:
        brightness: Largest change of the factor that pixels are multiplied by; 0.4 draws it from 0.6 to 1.4.
        contrast: Largest change of the factor of the differences from the mean brightness.
        saturation: Largest change of the factor of the differences from the brightness of a pixel.
        hue: Largest turn of the colour circle in both directions, as a fraction of a turn, at most 0.5.
    """

    full_range = True

    def __init__(
        self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.1
    ) -> None:
        super().__init__()
        self.largest = (brightness, contrast, saturation, hue)
        if min(self.largest) < 0 or hue > 0.5:
            raise UserError(f"ColorJitter has the changes {self.largest}: give 0 or more, and for the hue at most 0.5")

    def draw(self, x: Tensor) -> Tensor:
        """Return the factors, the turn, and four numbers in whose order they are applied, (B, 8)."""
        largest = torch.tensor(self.largest, device=x.device)
        draws = torch.rand(len(x), 8, device=x.device)
        factors = 1 + (2 * draws[:, :3] - 1) * largest[:3]
        turn = (2 * draws[:, 3:4] - 1) * largest[3]
        return torch.cat([factors.clamp(min=0), turn, draws[:, 4:]], dim=1)

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Change images by `params`, (B, 8)."""
        y, order = x.clone(), params[:, 4:].argsort(dim=1)
        for place in range(4):
            for index, adjust in enumerate(ADJUSTMENTS):
                rows = (order[:, place] == index).nonzero().squeeze(1)
                if self.largest[index] and len(rows):
                    changed = adjust(y.index_select(0, rows), params[rows, index, None, None, None])
                    y.index_copy_(0, rows, changed)  # faster than y[rows]
        return y
