"""A dataset of arrays in memory that returns whole batches."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from leyden.errors import UserError

Batch = tuple[Tensor, Tensor]  # inputs (B, ...) and targets (B, ...)


class ArrayDataset(Dataset[Batch]):
    """Some samples of two arrays in memory, fetched a batch at a time.

    The splits of a dataset are such views and share the arrays.

    Args:
        x: Inputs, (N, ...), for example uint8 images (N, C, H, W).
        y: Targets, (N,) or (N, ...).
        indices: Which of the N samples to use, (M,); None for all.
        files: Names of the M samples' files, if they have any.
    """

    def __init__(self, x: Tensor, y: Tensor, indices: Tensor | None = None, files: Sequence[str] = ()) -> None:
        self.x = x
        self.y = y
        self.files = files
        self.indices = torch.arange(len(y), device=y.device) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Batch:
        i = self.indices[index]
        return self.x[i], self.y[i]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return a whole batch; the DataLoader prefers this method to `__getitem__`."""
        # index_select copies whole rows, five times as fast as x[i] on uint8 images, and rejects a negative index;
        # by NumPy, because torch.tensor is slow for a list
        i = self.indices.index_select(0, torch.from_numpy(np.array(indices)).to(self.indices.device))
        return self.x.index_select(0, i), self.y.index_select(0, i)

    @property
    def labels(self) -> Tensor:
        """Targets of these samples, (M, ...)."""
        return self.y[self.indices]


def check_arrays(x: Tensor, y: Tensor, name: str) -> None:
    """Reject arrays with different numbers of inputs and targets, or that a worker could not send.

    Args:
        x: Inputs, (N, ...).
        y: Targets, (N, ...).
        name: What the arrays are, for the message.

    Raises:
        UserError: They are rejected.
    """
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        raise UserError(f"{name} are {type(x).__name__} and {type(y).__name__}, but must be tensors")
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise UserError(f"{name} are {tuple(x.shape)} and {tuple(y.shape)}, but must be (N, ...) with the same N")
    if x.requires_grad or y.requires_grad:
        raise UserError(f"{name} require a gradient: detach them")
