"""Random changes of brightness, contrast, saturation and hue, and the functions that change them.

The functions take images (B, C, H, W) of uint8, grey or RGB, and a number for each image, (B, 1, 1, 1). They compute as
torchvision's functions of one image do, which cut fractions off.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leyden.data.transforms import RandomTransform

LUMA = (0.2989, 0.587, 0.114)  # weights of R, G and B in the brightness of a pixel, ITU-R BT.601
SHARPENING_BASE = ((1 / 13, 1 / 13, 1 / 13), (1 / 13, 5 / 13, 1 / 13), (1 / 13, 1 / 13, 1 / 13))  # Pillow's SMOOTH


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
    channels, base = x.shape[1], x.float()
    kernel = base.new_tensor(SHARPENING_BASE).expand(channels, 1, 3, 3)
    base[..., 1:-1, 1:-1] = F.conv2d(x.float(), kernel, groups=channels).round_()
    return _blend(x, base, factor)


def adjust_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the colour circle by a fraction of a turn, -0.5 to 0.5; grey images stay the same.

    The hue of HSV (Smith, 1978), in sixths of a turn: red is 0, green 2, blue 4.
    """
    if x.shape[1] == 1:
        return x
    x = x.float()
    value = x.amax(dim=1, keepdim=True)
    chroma = value - x.amin(dim=1, keepdim=True)
    r, g, b = x[:, :, None].unbind(1)
    difference = torch.where(value == r, g - b, torch.where(value == g, b - r, r - g))
    offset = torch.where(value == r, 0.0, torch.where(value == g, 2.0, 4.0))
    hue = offset + difference / chroma.clamp(min=1) + 6 * turn  # where the chroma is 0, its factor below is
    # each channel falls from the value by the chroma, and rises again, over four sixths of a turn
    sixths = (hue + hue.new_tensor([5, 3, 1])[:, None, None]).remainder_(6)  # (B, 3, H, W)
    fall = torch.minimum(sixths, 4 - sixths).clamp_(0, 1)
    return (value - chroma * fall).round_().to(torch.uint8)


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
                    y[rows] = adjust(y[rows], params[rows, index, None, None, None])
        return y
