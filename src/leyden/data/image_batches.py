"""What image DataModules do with a batch: augment and normalise it on the device that trains."""

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn

from leyden.data.array_dataset import Batch
from leyden.errors import UserError


class ImageBatches(LightningDataModule):
    """Augment and normalise batches of uint8 images (B, C, H, W). A subclass sets the attributes.

    Attributes:
        mean: Mean to subtract from pixels in [0, 1], (C, 1, 1) or (1, 1, 1).
        std: Standard deviation to divide by after that, of the same shape.
        augment: Modules that change training batches of uint8, in this order.
        mix: A module that mixes the images and labels of a training batch after normalisation: it is called with
            images, labels and the number of classes, and returns images and the probability of each class, (B, C).
        pixel_max: The pixel that is 1.0 on the scale of mean and std.
    """

    mean: Tensor
    std: Tensor
    augment: Sequence[nn.Module]
    mix: nn.Module | None
    num_classes: int
    pixel_max: int = 255

    def check_image_options(self, channels: int) -> None:
        """Refuse a `mean`, `std` or `mix` that does not fit the images.

        Raises:
            UserError: They have another number of channels, `std` is not positive, or there are no labels to mix.
        """
        for name, constant in [("mean", self.mean), ("std", self.std)]:
            if len(constant) not in (1, channels):
                raise UserError(f"{name} has {len(constant)} numbers, but an image has {channels} channels")
        if not (self.std > 0).all():
            raise UserError("std must be positive: pixels are divided by it")
        if self.mix is not None and not hasattr(self, "num_classes"):
            raise UserError(f"data.mix needs class labels, which {type(self).__name__} does not have: leave it out")

    def normalize(self, x: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) as float32 for the network: (x / pixel_max - mean) / std."""
        self.mean = self.mean.to(x.device)  # a copy at the first batch only
        self.std = self.std.to(x.device)
        # in place: one new array instead of four
        return x.to(torch.float32, copy=True).div_(self.pixel_max).sub_(self.mean).div_(self.std)

    def preprocess(self, batch: Batch, training: bool) -> Batch:
        """Augment, if `training`, normalise and mix a batch.

        Args:
            batch: Images of uint8, (B, C, H, W), and targets, (B, ...).
            training: Whether to augment and mix, with draws from the global random generators.

        Returns:
            Images of float32, and the targets; with `mix`, if `training`, probabilities (B, num_classes).
        """
        x, y = batch
        if training:
            for transform in self.augment:
                x = self._augment(transform, x)
        x = self.normalize(x)
        if training and self.mix is not None:
            mixed: Batch = self.mix(x, y, self.num_classes)
            return mixed
        return x, y

    def _augment(self, transform: nn.Module, x: Tensor) -> Tensor:
        if self.pixel_max == 255 or not getattr(transform, "full_range", False):
            return transform(x)  # type: ignore[no-any-return]
        scale = 255 / self.pixel_max
        changed: Tensor = transform((x * scale).round().to(x.dtype))
        return (changed / scale).round().to(x.dtype)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Preprocess a batch; a tensor is the example input of the model, for the printed summary."""
        if isinstance(batch, Tensor):
            return batch
        return self.preprocess(batch, training=self.trainer is not None and self.trainer.training)


def constant(value: float | Sequence[float]) -> Tensor:
    """Return a mean or standard deviation, one number or one per channel, as (C, 1, 1)."""
    return torch.tensor(value).reshape(-1, 1, 1)
