"""Mixtures of two training images and of their labels, on the normalised batch: the argument `mix` of the data."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional as F  # noqa: N812

from leyden.data.array_dataset import Batch
from leyden.data.boxes import inside
from leyden.errors import UserError


class Mix(nn.Module, ABC):
    """Mix each image with another one of the batch.

    Args:
        alpha: The share of an image in its mixture is drawn from Beta(alpha, alpha): 1 is uniform, and a small alpha
            gives shares near 0 and 1.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if not alpha > 0:
            raise UserError(f"{type(self).__name__}: alpha is {alpha}, but must be above 0; leave mix out for none")
        self.alpha = alpha

    def draw_shares(self, x: Tensor) -> Tensor:
        """Return the drawn share of each image in its mixture, (B,), on the device of `x`."""
        alpha = torch.full((len(x),), self.alpha)
        return Beta(alpha, alpha).sample().to(x.device)  # on the CPU: not every device has a generator for it

    @abstractmethod
    def draw(self, x: Tensor) -> Tensor:
        """Return random parameters for each of the B samples, (B, ...), on the device of `x`."""

    @abstractmethod
    def combine(self, x: Tensor, other: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return mixtures of `x` and `other`, both (B, C, H, W), and the share of `x` in each, (B,)."""

    def forward(self, x: Tensor, y: Tensor, num_classes: int) -> Batch:
        """Draw pairs and parameters, and mix.

        Args:
            x: Normalised images, (B, C, H, W).
            y: Labels, (B,).
            num_classes: Number of classes C.

        Returns:
            The mixtures, and the probability of each class, (B, C): the shares of the two labels.
        """
        partner = torch.randperm(len(x), device=x.device)
        x, share = self.combine(x, x[partner], self.draw(x))
        target = F.one_hot(y, num_classes).to(x.dtype)
        return x, torch.lerp(target[partner], target, share[:, None])


class Mixup(Mix):
    """Add two images, weighted by their shares (Zhang et al., 2018).

    Args:
        alpha: The share of an image is drawn from Beta(alpha, alpha).
    """

    def __init__(self, alpha: float = 0.2) -> None:
        super().__init__(alpha)

    def draw(self, x: Tensor) -> Tensor:
        """Return the share of each image, (B,)."""
        return self.draw_shares(x)

    def combine(self, x: Tensor, other: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return share x + (1 - share) other, and the shares; `params` is (B,)."""
        return torch.lerp(other, x, params[:, None, None, None]), params


class CutMix(Mix):
    """Paste a random box of one image into another (Yun et al., 2019).

    The box has the shape of the image and a uniform centre; what would be outside of the image is cut off, and the
    shares of the labels are those of the pixels.

    Args:
        alpha: The share of an image, before the cut, is drawn from Beta(alpha, alpha).
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)

    def draw(self, x: Tensor) -> Tensor:
        """Return top, left, height and width of each box, in pixels, (B, 4)."""
        size = torch.tensor(x.shape[-2:], device=x.device)
        half = ((1 - self.draw_shares(x)).sqrt()[:, None] * size / 2).long()
        centre = (torch.rand(len(x), 2, device=x.device) * size).long()
        start, end = (centre - half).clamp(min=0), torch.minimum(centre + half, size)
        return torch.cat([start, end - start], dim=1)

    def combine(self, x: Tensor, other: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return `x` with the boxes in `params`, (B, 4), taken from `other`, and the share of pixels of `x`."""
        height, width = x.shape[-2:]
        pasted = torch.where(inside(params, height, width), other, x)
        return pasted, 1 - params[:, 2] * params[:, 3] / (height * width)


class MixupOrCutMix(nn.Module):
    """Mixup for half of the batches, CutMix for the others, at random.

    Args:
        mixup_alpha: Alpha of Mixup.
        cutmix_alpha: Alpha of CutMix.
    """

    def __init__(self, mixup_alpha: float = 0.2, cutmix_alpha: float = 1.0) -> None:
        super().__init__()
        self.mixup = Mixup(mixup_alpha)
        self.cutmix = CutMix(cutmix_alpha)

    def forward(self, x: Tensor, y: Tensor, num_classes: int) -> Batch:
        """Mix a batch as `Mix` does."""
        mix = self.mixup if torch.rand(()) < 0.5 else self.cutmix
        batch: Batch = mix(x, y, num_classes)
        return batch
