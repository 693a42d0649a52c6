"""Random changes of training images, on a whole batch at once and different for each sample.

The random transforms of torchvision draw once for a whole batch. Each transform here has two parts: `draw` returns the
random parameters, and `transform` applies them as torchvision's functional transforms do to one image. `PerSample`
applies any transform of torchvision to each image, at the speed of one image at a time. More transforms are in
`boxes.py`, `color_jitter.py` and `trivial_augment.py`; `mix.py` combines pairs of images and their labels.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

CACHED_VALUES = 2**19  # 2 MiB in float32: on a CPU, larger batches are transformed in parts that stay in its cache


class RandomTransform(nn.Module, ABC):
    """A random change of images (B, C, H, W) that keeps their shape, dtype and device."""

    full_range = False  # whether the brightest pixel must be 255; `ImageDataModule` scales other data for it

    @abstractmethod
    def draw(self, x: Tensor) -> Tensor:
        """Return random parameters for each of the B samples, (B, ...), on the device of `x`."""

    @abstractmethod
    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Return `x`, (B, C, H, W), changed by the parameters of `draw`, (B, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        """Draw parameters and transform images (B, C, H, W)."""
        params = self.draw(x)
        if x.device.type != "cpu" or x.numel() <= CACHED_VALUES:
            return self.transform(x, params)
        size = max(1, CACHED_VALUES // x[0].numel())
        parts = zip(torch.split(x, size), torch.split(params, size), strict=True)
        return torch.cat([self.transform(*part) for part in parts])


class RandomCrop(RandomTransform):
    """Pad with zeros and crop to the original size, which shifts by whole pixels.

    Args:
        padding: Pixels added on each side, the largest shift.
    """

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding

    def draw(self, x: Tensor) -> Tensor:
        """Return the top and the left edge of each crop in its padded image, in pixels, (B, 2)."""
        return torch.randint(2 * self.padding + 1, (len(x), 2), device=x.device)

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Crop at the edges in `params`, (B, 2)."""
        height, width = x.shape[-2:]
        windows = F.pad(x, [self.padding] * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view of all crops
        top, left = params.unbind(1)
        return windows[torch.arange(len(x), device=x.device), :, top, left]  # (B, C, H, W)


class RandomHorizontalFlip(RandomTransform):
    """Flip images left to right.

    Args:
        p: Probability of a flip.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def draw(self, x: Tensor) -> Tensor:
        """Return which images to flip, (B,) of bool."""
        return torch.rand(len(x), device=x.device) < self.p

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Flip where `params`, (B,), is true."""
        return torch.where(params[:, None, None, None], x.flip(-1), x)


class RandomAffine(RandomTransform):
    """Rotate about the centre, then shift, by bilinear interpolation; pixels outside of the image are zero.

    Args:
        degrees: Largest angle in degrees, in both directions.
        translate: Largest shift in both directions, as a fraction of the height and of the width.
    """

    def __init__(self, degrees: float = 0.0, translate: float = 0.0) -> None:
        super().__init__()
        self.degrees = degrees
        self.translate = translate

    def draw(self, x: Tensor) -> Tensor:
        """Return clockwise angles in degrees, and shifts right and down in pixels, (B, 3)."""
        height, width = x.shape[-2:]
        largest = [self.degrees, self.translate * width, self.translate * height]
        return (2 * torch.rand(len(x), 3, device=x.device) - 1) * torch.tensor(largest, device=x.device)

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Rotate and shift by `params`, (B, 3)."""
        angle, right, down = params.unbind(1)
        cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
        # the inverse: shift back, then rotate back
        source = [[cos, sin, -(cos * right + sin * down)], [-sin, cos, sin * right - cos * down]]
        return affine(x, source, "bilinear")


def affine(x: Tensor, source: list[list[Tensor]], mode: str) -> Tensor:
    """Apply an affine map to each image; pixels outside of the image are zero.

    Args:
        x: Images (B, C, H, W).
        source: Two rows of three numbers, each (B,), which map (x, y, 1) of a pixel of the result to its place in the
            original image, in pixels to the right and down from the centre.
        mode: Interpolation: bilinear or nearest.
    """
    height, width = x.shape[-2:]
    (a, b, right), (c, d, down) = source
    # the coordinates of affine_grid are -1 to 1 along each side
    theta = torch.stack(
        [
            torch.stack([a, b * height / width, 2 / width * right], 1),
            torch.stack([c * width / height, d, 2 / height * down], 1),
        ],
        dim=1,
    )  # (B, 2, 3)
    return resample(x, F.affine_grid(theta, list(x.shape), align_corners=False), mode)


def resample(x: Tensor, grid: Tensor, mode: str, outside: str = "zeros") -> Tensor:
    """Return images (B, C, H, W) at the places in `grid`, (B, H, W, 2), in their own dtype.

    Args:
        x: Images (B, C, H, W).
        grid: As `grid_sample` takes it without `align_corners`.
        mode: Interpolation: bilinear or nearest.
        outside: What is outside of the image: zeros, or border for its outermost pixels.
    """
    y = F.grid_sample(x.float(), grid, mode, outside, align_corners=False)
    return y.to(x.dtype) if x.is_floating_point() else y.round().to(x.dtype)


class PerSample(nn.Module):
    """Apply a transform to one image after another, so that a random transform of torchvision draws for each.

    Args:
        transform: Takes one image (C, H, W) of uint8 from 0 to 255 and keeps its shape, such as
            `torchvision.transforms.v2.ElasticTransform`.
    """

    full_range = True

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor) -> Tensor:
        """Transform images (B, C, H, W)."""
        return torch.stack([self.transform(image) for image in x])
