"""Images that are read from their files whenever a batch needs them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from leyden.data.array_dataset import ArrayDataset, Batch
from leyden.data.image_files import BrokenImageError, ImageReader, printable
from leyden.errors import RunError


class ImageFileDataset(ArrayDataset):
    """Images of a set that is not cached.

    Args:
        root: The folder to which the names are relative.
        reader: How images are read.
        files: Names of the N images.
        y: Their labels, (N,).
    """

    def __init__(self, root: Path, reader: ImageReader, files: Sequence[str], y: Tensor) -> None:
        super().__init__(torch.empty(0), y, files=files)
        self.root = root
        self.reader = reader

    def __getitem__(self, index: int) -> Batch:
        x, y = self.__getitems__([index])
        return x[0], y[0]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a whole batch.

        Raises:
            RunError: A file can no longer be read.
        """
        images = []
        for index in indices:
            try:
                images.append(self.reader.read(self.root / self.files[index]))
            except BrokenImageError as error:
                raise RunError(f"{printable(self.files[index])} could be read before, and now not ({error})") from error
        return torch.from_numpy(np.stack(images)), self.y[torch.tensor(indices)]
