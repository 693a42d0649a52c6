"""DataModules of arrays in memory: a fixed split, and work on whole batches."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from leyden.data.array_dataset import ArrayDataset, check_arrays
from leyden.data.array_dataset import Batch as Batch  # a DataModule's own file needs it
from leyden.data.image_batches import ImageBatches, constant
from leyden.data.split import draw_fold, draw_split
from leyden.data.split_loaders import SplitLoaders
from leyden.errors import UserError


class ArrayDataModule(SplitLoaders, ABC):
    """A dataset that fits in memory.

    A subclass sets `input_shape`, and `num_classes` or `out_features`, and implements `load_arrays`. After `setup` the
    splits are `train_set`, `val_set` and `test_set`. The validation split is drawn from the training samples by its
    own seed and depends on nothing else. The test split is that of the dataset; `predict` runs on it.

    Args:
        val_size: Number of training samples to hold out for validation, unless `folds` says which.
        split_seed: Seed of the draw of the validation samples, or of the folds.
        stratify: Whether to hold out the same fraction of each class. Folds do that wherever there are class labels.
        on_device: Whether to keep the arrays on the device that trains, so that a GPU does not wait for copies. They
            must fit there, and `num_workers` must be 0 and `pin_memory` false.
        kwargs: The options of `leyden.data.split_loaders.SplitLoaders`: `batch_size`, `num_workers`, `sampler`, ...
    """

    input_shape: tuple[int, ...]  # of one sample, as the network gets it
    num_classes: int  # for classification
    out_features: int  # for regression

    def __init__(
        self, val_size: int, split_seed: int = 0, stratify: bool = False, on_device: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.val_size = val_size
        self.split_seed = split_seed
        self.stratify = stratify
        self.on_device = on_device

    @abstractmethod
    def load_arrays(self) -> tuple[Batch, Batch]:
        """Return the training and the test samples, each as inputs (N, ...) and targets (N, ...)."""

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the arrays, once for all stages.

        Raises:
            UserError: The labels do not fit `num_classes`, an option of the split does not fit the data, or one does
                not fit `on_device`.
        """
        if hasattr(self, "test_set"):
            return
        if self.on_device and (self.num_workers or self.pin_memory):
            raise UserError("with on_device the arrays are where they are needed: num_workers 0 and pin_memory false")
        (x, y), (x_test, y_test) = self.load_arrays()
        name = f"{type(self).__name__}.load_arrays: the"
        check_arrays(x, y, f"{name} training arrays")
        check_arrays(x_test, y_test, f"{name} test arrays")
        if hasattr(self, "num_classes"):
            self._check_labels(torch.cat([y, y_test]))
        has_labels = hasattr(self, "num_classes") and y.ndim == 1
        if self.stratify and not has_labels:
            raise UserError(
                f"data.stratify needs one class label for each sample, which {type(self).__name__} does not have: "
                "leave it out"
            )
        if self.folds is None or self.fold is None:
            train, val = draw_split(y, self.val_size, self.split_seed, self.stratify)
        else:
            train, val = draw_fold(y, self.folds, self.fold, self.split_seed, stratify=has_labels)
        if self.on_device and self.trainer is not None:
            device = self.trainer.strategy.root_device
            x, y, x_test, y_test, train, val = (array.to(device) for array in (x, y, x_test, y_test, train, val))
        self.train_set = ArrayDataset(x, y, train)
        self.val_set = ArrayDataset(x, y, val)
        self.test_set = ArrayDataset(x_test, y_test)

    def _check_labels(self, y: Tensor) -> None:
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= self.num_classes:
            raise UserError(
                f"{type(self).__name__} has labels {low} to {high}, but num_classes is {self.num_classes}: "
                f"they must be 0 to {self.num_classes - 1}"
            )


class ImageDataModule(ImageBatches, ArrayDataModule):
    """Images as uint8 (N, C, H, W), augmented and normalised a batch at a time on the device that trains.

    Args:
        mean: Mean to subtract from pixels in [0, 1], one number per channel, or one for all.
        std: Standard deviation to divide by after that, one number per channel, or one for all.
        augment: Modules that change training batches (B, C, H, W) of uint8, in this order; see
            `leyden.data.transforms`. Validation, test and prediction use the original images.
        mix: A module that mixes the images and labels of a training batch after normalisation; see `leyden.data.mix`.
        kwargs: The options of `ArrayDataModule`.
    """

    def __init__(
        self,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        augment: list[nn.Module] | None = None,
        mix: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mean = constant(mean)
        self.std = constant(std)
        self.augment = augment or []
        self.mix = mix

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the arrays, and check `mean`, `std` and `mix`.

        Raises:
            UserError: The data or an option is wrong.
        """
        self.check_image_options(self.input_shape[0])
        super().setup(stage)
