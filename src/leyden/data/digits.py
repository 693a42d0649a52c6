"""Small handwritten digits that come with scikit-learn, for experiments without a download."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from leyden.data.datamodules import Batch, ImageDataModule

DIGITS_MEAN = 0.3052  # over the 1 437 training images enlarged to 28x28 pixels, in [0, 1]
DIGITS_STD = 0.3252  # enlarging smooths: 0.3761 over the 8x8 originals, 0.32 to 0.33 for sizes of 16 and more
TEST_SIZE = 360


class DigitsDataModule(ImageDataModule):
    """1 797 handwritten digits, 8x8 pixels of 17 grey levels (Alpaydin and Kaynak, 1998).

    scikit-learn has the test part of the original data, from 13 writers, without the writer of each image. Here a fixed
    random fifth of it, 360 images with the same fraction of each digit, is the test set; the other 1 437 are for
    training and validation. The split is not by writer, so scores do not show how well the digits of other people are
    recognised.

    Args:
        size: Height and width to which images are enlarged by bilinear interpolation; 8 for the original size.
        val_size: Number of training images to hold out for validation.
        mean: Mean to subtract from pixels in [0, 1]. The default is that of the training images at 28x28.
        std: Standard deviation to divide by. The default is that of the training images at 28x28; at 8x8 it is 0.3761.
        stratify: Whether to hold out the same fraction of each digit.
        kwargs: The options of `ImageDataModule`.
    """

    num_classes = 10
    pixel_max = 16

    def __init__(
        self,
        size: int = 28,
        val_size: int = 200,
        mean: float | Sequence[float] = DIGITS_MEAN,
        std: float | Sequence[float] = DIGITS_STD,
        stratify: bool = True,  # without it, the 200 images that seed 0 draws hold 14 to 26 of each digit
        **kwargs: Any,
    ) -> None:
        super().__init__(val_size=val_size, mean=mean, std=std, stratify=stratify, **kwargs)
        self.size = size
        self.input_shape = (1, size, size)

    def load_arrays(self) -> tuple[Batch, Batch]:
        """Return images (N, 1, size, size) with values 0 to 16, and their digits (N,)."""
        from sklearn.datasets import load_digits  # takes 0.4 s, needed for these data only
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        x = torch.from_numpy(digits.images).float().unsqueeze(1)  # (N, 1, 8, 8)
        x = F.interpolate(x, size=(self.size, self.size), mode="bilinear").round().to(torch.uint8)
        y = torch.from_numpy(digits.target)
        train, test = train_test_split(torch.arange(len(y)), test_size=TEST_SIZE, stratify=y, random_state=0)
        return (x[train], y[train]), (x[test], y[test])
