"""Random boxes in training images: crops that are enlarged, and parts that are erased."""

import math

import torch
from torch import Tensor

from leyden.data.transforms import RandomTransform, resample
from leyden.errors import UserError

ATTEMPTS = 10  # boxes drawn for each image, of which the first that fits is taken: the number of torchvision


def draw_boxes(x: Tensor, area: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """Draw a box inside each image: a uniform area, a log-uniform aspect ratio, a uniform place.

    Args:
        x: Images (B, C, H, W).
        area: Smallest and largest area, as a fraction of the image.
        ratio: Smallest and largest width divided by height.

    Returns:
        Top, left, height and width of each box in pixels, (B, 4), of int64; all 0 if none of ten draws fits.
    """
    height, width = x.shape[-2:]
    draws = torch.rand(4, len(x), ATTEMPTS, device=x.device)
    root = (height * width * _between(area, draws[0])).sqrt()
    ratio_root = _between((math.log(ratio[0]) / 2, math.log(ratio[1]) / 2), draws[1]).exp()
    h, w = (root / ratio_root).round(), (root * ratio_root).round()
    fits = (h >= 1) & (h <= height) & (w >= 1) & (w <= width)
    top, left = (draws[2] * (height - h + 1)).floor(), (draws[3] * (width - w + 1)).floor()
    boxes = torch.stack([top, left, h, w], dim=2) * fits[..., None]  # (B, ATTEMPTS, 4)
    return boxes[torch.arange(len(x), device=x.device), fits.int().argmax(dim=1)].long()


def _between(bounds: tuple[float, float], draws: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * draws


def inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels are in the box of their image, (B, 1, H, W), of boxes (B, 4) as `draw_boxes` returns them."""
    top, left, h, w = boxes[:, :, None].unbind(1)  # each (B, 1)
    y, x = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    rows, columns = (y >= top) & (y < top + h), (x >= left) & (x < left + w)  # (B, H), (B, W)
    return rows[:, None, :, None] & columns[:, None, None, :]


def check_bounds(area: tuple[float, float], ratio: tuple[float, float]) -> None:
    """Refuse bounds of boxes that are not two positive numbers in their order.

    Raises:
        UserError: They are not.
    """
    for name, (low, high), limit in (("scale", area, 1.0), ("ratio", ratio, math.inf)):
        if not 0 < low <= high <= limit:
            raise UserError(f"{name} is [{low}, {high}]: give the smallest value above 0, then the largest")


class RandomResizedCrop(RandomTransform):
    """Enlarge a random part of each image to the size of the image, by bilinear interpolation (Szegedy et al., 2015).

    An image for which none of ten drawn parts fits is kept whole.

    Args:
        scale: Smallest and largest area of the part, as a fraction of the image.
        ratio: Smallest and largest width of the part divided by its height.
    """

    def __init__(self, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)) -> None:
        super().__init__()
        check_bounds(scale, ratio)
        self.scale = scale
        self.ratio = ratio

    def draw(self, x: Tensor) -> Tensor:
        """Return top, left, height and width of each part, in pixels, (B, 4)."""
        boxes = draw_boxes(x, self.scale, self.ratio)
        return torch.where(boxes[:, 2:3] > 0, boxes, boxes.new_tensor([0, 0, *x.shape[-2:]]))

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Enlarge the parts in `params`, (B, 4)."""
        top, left, h, w = params[:, :, None].unbind(1)
        y, x_ = _places(top, h, x.shape[-2]), _places(left, w, x.shape[-1])  # (B, H), (B, W)
        grid = torch.stack([x_[:, None, :].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x_.shape[1])], -1)
        return resample(x, grid, "bilinear", "border")


def _places(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return where the pixels along a side are taken from, -1 to 1 along that side, (B, size).

    A place between the outermost pixels of the part and its edge is moved to these pixels, as if the part was cut out.

    Args:
        start: First pixel of the part, (B, 1).
        length: Its number of pixels, (B, 1).
        size: Number of pixels of the side.
    """
    steps = (torch.arange(size, device=start.device) + 0.5) / size
    pixel = start + (steps * length - 0.5).clamp(min=0).minimum(length - 1)
    return (2 * pixel + 1) / size - 1


class RandomErasing(RandomTransform):
    """Fill a random box of some images (Zhong et al., 2020).

    Args:
        p: Probability that an image is changed.
        scale: Smallest and largest area of the box, as a fraction of the image.
        ratio: Smallest and largest width of the box divided by its height.
        value: The pixel to fill the box with, before normalisation: 0 is black, 255 white.
    """

    full_range = True

    def __init__(
        self,
        p: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        value: int = 0,
    ) -> None:
        super().__init__()
        check_bounds(scale, ratio)
        self.p = p
        self.scale = scale
        self.ratio = ratio
        self.value = value

    def draw(self, x: Tensor) -> Tensor:
        """Return top, left, height and width of each box, in pixels, (B, 4); 0 for an image that is not changed."""
        erased = torch.rand(len(x), 1, device=x.device) < self.p
        return draw_boxes(x, self.scale, self.ratio) * erased

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Fill the boxes in `params`, (B, 4)."""
        return x.masked_fill(inside(params, *x.shape[-2:]), self.value)
