"""The samples of a checkpoint's data, as a file takes them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leyden.data.array_dataset import ArrayDataset
from leyden.data.split_loaders import SplitLoaders
from leyden.deploy.predictor import Predictor
from leyden.errors import UserError

Array = np.ndarray[Any, Any]
CALIBRATION_SAMPLES = 1000


class Samples:
    """The test and training samples of a predictor's data.

    Args:
        predictor: The model and its data, which are loaded.
        limit: Use only so many test samples, the first; None for all.

    Raises:
        UserError: The data cannot be loaded, or are not a DataModule of this project.
    """

    def __init__(self, predictor: Predictor, limit: int | None = None) -> None:
        self.predictor = predictor
        data = predictor.data
        if not isinstance(data, SplitLoaders):
            named = "names no data" if data is None else f"has data of {type(data).__name__}"
            raise UserError(
                f"the checkpoint {named}, and each file is checked on its test split: train it on a DataModule of "
                "leyden.data"
            )
        data.prepare_data()
        data.setup("test")
        self.pixel_max: int = getattr(data, "pixel_max", 255) if predictor.reader is not None else 255
        self.train_set, self.test_set = data.train_set, data.test_set
        self.num_test = min(len(self.test_set), limit or len(self.test_set))

    def test(self, size: int, count: int | None = None) -> Iterator[tuple[Array, Tensor, Tensor]]:
        """Yield the test samples in batches: raw inputs of a file, inputs of the predictor, and targets.

        Args:
            size: Samples of a batch.
            count: How many samples; the split is repeated if it has fewer. None for each once.
        """
        count = self.num_test if count is None else count
        for start in range(0, count, size):
            indices = [i % self.num_test for i in range(start, min(start + size, count))]
            raw, x, y = self._fetch(self.test_set, indices)
            yield raw, x if self.predictor.reader is None else self.predictor.data.normalize(x), y

    def calibration(self, size: int = 100) -> Iterator[Array]:
        """Yield raw inputs from up to 1 000 training samples, which are drawn by a fixed seed."""
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(self.train_set), generator=generator)[:CALIBRATION_SAMPLES].tolist()
        for start in range(0, len(order), size):
            yield self._fetch(self.train_set, order[start : start + size])[0]

    def _fetch(self, dataset: ArrayDataset, indices: list[int]) -> tuple[Array, Tensor, Tensor]:
        x, y = dataset.__getitems__(indices)
        raw = x
        if self.predictor.reader is not None and self.pixel_max != 255:
            raw = (x * (255 / self.pixel_max)).round().to(torch.uint8)
        return raw.numpy(), x, y
