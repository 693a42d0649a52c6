"""Orders of samples that depend on nothing but the seed and the epoch, and start at any batch.

The position is read from the Trainer, which Lightning saves and restores, so samplers have no state of their own.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, Sampler, WeightedRandomSampler

from leyden.data.seeds import derive_seed, next_position, run_seed, seed_generators
from leyden.errors import UserError

HOW_TO_TAKE = "a sampler of a configuration is given the training split if its first argument is annotated as a Dataset"


class ResumableSampler(DistributedSampler[Any]):
    """Make the order of any sampler a function of (seed, epoch), and start at the batch where a run stopped.

    The sampler may draw from the global generators of Python, NumPy and torch, and from its `generator`. Each of R
    ranks takes every R-th index of one order. Up to R - 1 remaining samples are left out of the epoch, so that all
    ranks take the same number of steps. The length is always that of the whole epoch. This is a subclass of
    `DistributedSampler`, so that Lightning neither replaces nor wraps it.

    Args:
        sampler: The sampler that draws the order; it has a length.
        dataset: The dataset of the samples.
        batch_size: Samples per batch and rank.
        trainer: While it trains, iteration starts at its position. Otherwise, or for None, at the first batch of the
            epoch of `set_epoch`.
        num_replicas: Number of ranks R.
        rank: Rank of this process.

    Raises:
        UserError: The sampler has no length.
    """

    def __init__(
        self,
        sampler: Sampler[Any] | Iterable[Any],
        dataset: Dataset[Any],
        batch_size: int,
        trainer: Trainer | None = None,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, seed=run_seed())
        self.sampler = sampler
        self.name = type(sampler).__name__
        self.batch_size = batch_size
        self.trainer = trainer
        try:
            self.length = len(sampler)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError) as error:
            raise UserError(f"sampler {self.name} has no length ({error}): give it a __len__; {HOW_TO_TAKE}") from error
        self.num_samples = self.length // num_replicas
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[Any]:
        epoch, batches_done = self.position()
        return iter(self.rank_indices(epoch)[batches_done * self.batch_size :])

    def position(self) -> tuple[int, int]:
        """Return the epoch, and the index of its next batch."""
        if self.trainer is not None and self.trainer.training:
            return next_position(self.trainer)
        return self.epoch, 0

    def rank_indices(self, epoch: int) -> list[Any]:
        """Return the N // R indices of one epoch for this rank."""
        return self.order(epoch)[self.rank : self.total_size : self.num_replicas]

    def order(self, epoch: int) -> list[Any]:
        """Return the N indices of one epoch for all ranks.

        Raises:
            UserError: The sampler draws something else than indices of samples, or not as many as its length.
        """
        seed = derive_seed(self.seed, epoch)
        with isolate_rng(include_cuda=False):
            seed_generators(seed)
            if isinstance(generator := getattr(self.sampler, "generator", None), torch.Generator):
                generator.manual_seed(seed)
            if isinstance(self.sampler, DistributedSampler):
                self.sampler.set_epoch(epoch)
            try:
                indices = list(self.sampler)
            except (TypeError, AttributeError) as error:
                raise UserError(f"sampler {self.name} cannot draw an order ({error}); {HOW_TO_TAKE}") from error
        if len(indices) != self.length:
            raise UserError(f"sampler {self.name} draws {len(indices)} samples, but its length is {self.length}")
        return self.check_indices(indices)

    def check_indices(self, indices: list[Any]) -> list[Any]:
        """Return the indices as a list of ints.

        Raises:
            UserError: One of them is not the index of a sample.
        """
        size = len(self.dataset)  # type: ignore[arg-type]
        try:
            order = np.array(indices)
        except (TypeError, ValueError):  # for example of samples
            order = np.array(np.nan)
        if order.dtype not in (np.int64, np.int32) or order.ndim != 1:
            # for example SubsetRandomSampler without indices, which iterates over the dataset
            kind = type(indices[0]).__name__
            raise UserError(f"sampler {self.name} must draw indices, which are ints, but draws {kind}s")
        if (outside := order[(order < 0) | (order >= size)]).size:
            raise UserError(f"sampler {self.name} draws index {outside[0]}, but there are only 0 to {size - 1}")
        return indices if isinstance(indices[0], int) else order.tolist()  # for example of tensors

    def check_batches(self, drop_last: bool) -> None:
        """Reject an epoch without a batch.

        Raises:
            UserError: There are not enough samples.
        """
        if self.num_samples < (self.batch_size if drop_last else 1):
            raise UserError(
                f"an epoch of {self.num_samples} training samples per process has no batch of batch_size "
                f"{self.batch_size}: use a smaller batch_size, drop_last false, or more samples"
            )

    def is_repeatable(self) -> bool:
        """Return whether the sampler draws the same order again after the same seeding."""
        module = getattr(type(self.sampler).__iter__, "__module__", None) or ""
        # torch's samplers are: drawing millions of samples twice would take seconds
        return module.startswith("torch.utils.data") or self.order(0) == self.order(0)


class DistributedEvalSampler(DistributedSampler[int]):
    """Every R-th sample, in order, for each of R ranks.

    torch's sampler repeats samples until all ranks have equally many, and metrics then count these twice.
    """

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices())

    def __len__(self) -> int:
        return len(self._indices())

    def _indices(self) -> range:
        return range(self.rank, len(self.dataset), self.num_replicas)  # type: ignore[arg-type]


class Labelled(Protocol):
    """A dataset with the label of each of its samples."""

    @property
    def labels(self) -> Tensor:
        """Class indices, (N,)."""


class ClassBalancedSampler(WeightedRandomSampler):
    """Draw every class equally often, with replacement, however rare it is.

    Args:
        dataset: The training split; from the DataModule.
        num_samples: Number of samples in an epoch; None for that of the split.
    """

    def __init__(self, dataset: Labelled, num_samples: int | None = None) -> None:
        labels = dataset.labels
        if labels.is_floating_point():
            raise UserError("sampler ClassBalancedSampler needs class labels, but these targets are real numbers")
        weights = 1 / labels.bincount()[labels]
        super().__init__(weights.tolist(), num_samples or len(labels))
