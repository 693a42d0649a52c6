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
        pixel_max: The pixel that is 1.0 on the scale of mean and std.
    """

    mean: Tensor
    std: Tensor
    augment: Sequence[nn.Module]
    pixel_max: int = 255

    def check_constants(self, channels: int) -> None:
        """Refuse a `mean` or `std` that does not fit the images.

        Raises:
            UserError: They have another number of channels, or `std` is not positive.
        """
        for name, constant in [("mean", self.mean), ("std", self.std)]:
            if len(constant) not in (1, channels):
                raise UserError(f"{name} has {len(constant)} numbers, but an image has {channels} channels")
        if not (self.std > 0).all():
            raise UserError("std must be positive: pixels are divided by it")

    def normalize(self, x: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) as float32 for the network: (x / pixel_max - mean) / std."""
        self.mean = self.mean.to(x.device)  # a copy at the first batch only
        self.std = self.std.to(x.device)
        # in place: one new array instead of four
        return x.to(torch.float32, copy=True).div_(self.pixel_max).sub_(self.mean).div_(self.std)

    def preprocess(self, batch: Batch, training: bool) -> Batch:
        """Augment, if `training`, and normalise a batch.

        Args:
            batch: Images of uint8, (B, C, H, W), and targets, (B, ...).
            training: Whether to augment, with draws from the global random generators.
        """
        x, y = batch
        if training:
            for transform in self.augment:
                x = transform(x)
        return self.normalize(x), y

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Preprocess a batch; a tensor is the example input of the model, for the printed summary."""
        if isinstance(batch, Tensor):
            return batch
        return self.preprocess(batch, training=self.trainer is not None and self.trainer.training)


def constant(value: float | Sequence[float]) -> Tensor:
    """Return a mean or standard deviation, one number or one per channel, as (C, 1, 1)."""
    return torch.tensor(value).reshape(-1, 1, 1)
