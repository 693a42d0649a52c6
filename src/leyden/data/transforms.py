"""Random changes of training images: on a whole batch at once, different for every sample in it.

torchvision's own random transforms draw once for a whole batch. Each transform here is in two parts: `draw`
is all that is random, and `transform` does the same as torchvision's functions of one image.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class RandomTransform(nn.Module, ABC):
    """A random change of images (B, C, H, W) that keeps their shape, dtype and device."""

    @abstractmethod
    def draw(self, x: Tensor) -> Tensor:
        """Returns random parameters for each of the B samples, (B, ...), on the device of `x`."""

    @abstractmethod
    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Returns `x` changed by the parameters that `draw` returned."""

    def forward(self, x: Tensor) -> Tensor:
        """Draws and transforms."""
        return self.transform(x, self.draw(x))


class RandomCrop(RandomTransform):
    """Pads with zeros and crops back to the original size: a shift by whole pixels.

    Args:
        padding: Pixels added on each side, and so the largest shift.
    """

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.padding = padding

    def draw(self, x: Tensor) -> Tensor:
        """Returns the top and the left edge of each crop in its padded image, (B, 2)."""
        return torch.randint(2 * self.padding + 1, (len(x), 2), device=x.device)

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Crops."""
        height, width = x.shape[-2:]
        windows = F.pad(x, [self.padding] * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view of all crops
        top, left = params.unbind(1)
        return windows[torch.arange(len(x), device=x.device), :, top, left]  # (B, C, H, W)


class RandomHorizontalFlip(RandomTransform):
    """Mirrors images left to right.

    Args:
        p: The probability of that.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def draw(self, x: Tensor) -> Tensor:
        """Returns which images to mirror, (B,)."""
        return torch.rand(len(x), device=x.device) < self.p

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Mirrors."""
        return torch.where(params[:, None, None, None], x.flip(-1), x)


class RandomAffine(RandomTransform):
    """Rotates about the centre and then shifts, by bilinear interpolation; zeros come in from outside.

    Args:
        degrees: The largest angle, either way.
        translate: The largest shift, either way, as a fraction of the height and of the width.
    """

    def __init__(self, degrees: float = 0.0, translate: float = 0.0) -> None:
        super().__init__()
        self.degrees = degrees
        self.translate = translate

    def draw(self, x: Tensor) -> Tensor:
        """Returns clockwise angles in degrees, and shifts right and down in pixels, (B, 3)."""
        height, width = x.shape[-2:]
        largest = [self.degrees, self.translate * width, self.translate * height]
        return (2 * torch.rand(len(x), 3, device=x.device) - 1) * torch.tensor(largest, device=x.device)

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """Rotates and shifts."""
        height, width = x.shape[-2:]
        angle, right, down = params.unbind(1)
        cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
        # affine_grid asks where each output pixel comes from, so this is the inverse: shift back, then rotate
        # back. Its coordinates run from -1 to 1 along each side.
        theta = torch.stack(
            [
                torch.stack([cos, sin * height / width, -2 / width * (cos * right + sin * down)], 1),
                torch.stack([-sin * width / height, cos, 2 / height * (sin * right - cos * down)], 1),
            ],
            dim=1,
        )  # (B, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        y = F.grid_sample(x.float(), grid, align_corners=False)
        return y.to(x.dtype) if x.is_floating_point() else y.round().to(x.dtype)
