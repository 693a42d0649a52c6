"""Which sample comes when: orders that depend on nothing but the seed, the epoch and the batch.

A run that was killed resumes exactly only if everything random is a function of (seed, epoch, batch), never
of what a random generator happened to do before. The position is read off the Trainer, which Lightning saves
and restores, so nothing here has a state of its own.
"""

import os
import random
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, Sampler, WeightedRandomSampler

from leyden.errors import UserError

MAX_SEED = 2**32 - 1  # the largest that NumPy's global generator takes, and so Lightning's `seed_everything`
SEEDS_AT_ONCE = 64
HOW_TO_TAKE = "a sampler of a configuration is given the training split if its first argument is annotated as a Dataset"


def derive_seed(seed: int, *position: int) -> int:
    """Mixes a seed and a position, such as (epoch, batch, rank), into a new 64-bit seed.

    Neighbouring positions give unrelated seeds, which `seed + epoch` does not: there, epoch 1 of seed 0 is
    epoch 0 of seed 1. The mixing is that of `numpy.random.SeedSequence`.
    """
    return int(np.random.SeedSequence(seed, spawn_key=position).generate_state(1, np.uint64)[0])


@lru_cache(maxsize=1)
def _seeds_of_steps(seed: int, epoch: int, block: int, rank: int) -> list[int]:
    """Returns `derive_seed(seed, epoch, batch, rank)` of some neighbouring batches.

    One by one, between steps, each takes five times as long; and nearly twice as long from Python's integers as from
    the words that `SeedSequence` makes of a seed, padded to its pool of four, and a spawn_key.
    """
    words = np.array([seed, 0, 0, 0, epoch, 0, rank], dtype=np.uint32)
    seeds = []
    for batch in range(block * SEEDS_AT_ONCE, (block + 1) * SEEDS_AT_ONCE):
        words[5] = batch
        seeds.append(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))
    return seeds


def run_seed() -> int:
    """The seed that Lightning's `seed_everything` was given; 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def check_seed(seed: int | bool) -> None:
    """Refuse a run's seed that Lightning or NumPy would not take.

    Args:
        seed: The option `seed_everything`; with False, `run_seed` reads PL_GLOBAL_SEED.

    Raises:
        UserError: It is out of range, or true.
    """
    name, value = "seed_everything", str(seed)
    if seed is False:
        name, value = "PL_GLOBAL_SEED", os.environ.get("PL_GLOBAL_SEED", "0")
    if not value.isdecimal() or int(value) > MAX_SEED:
        raise UserError(f"{name} is {value}, but must be a whole number from 0 to {MAX_SEED}")


def next_position(trainer: Trainer) -> tuple[int, int]:
    """Return the epoch, and the index within it of the training batch that is about to be fetched."""
    # not `fit_loop.batch_idx + 1`: a training_step that takes a `dataloader_iter` fetches after that has moved on
    return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.completed


def seed_generators(seed: int, device: torch.device | None = None) -> None:
    """Seed the global generators of Python, NumPy and torch: the CPU's, and the one of `device` where that is a GPU."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # it takes 32 bits
    # torch.manual_seed seeds every device there is and takes a hundred times as long
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(seed)


def seed_step(trainer: Trainer, device: torch.device, seed: int) -> None:
    """Seed what the coming training step draws (augmentation, dropout) by the run's seed, its position and rank."""
    epoch, batch = next_position(trainer)
    block, place = divmod(batch, SEEDS_AT_ONCE)
    seed_generators(_seeds_of_steps(seed, epoch, block, trainer.global_rank)[place], device)


class ResumableSampler(DistributedSampler[Any]):
    """Make any sampler's order a function of (seed, epoch), and enter it at the batch where a run stopped.

    The sampler may draw from the global generators of Python, NumPy and torch, and from its own `generator`. Each of R
    ranks takes every R-th index of the one order: no sample twice, and the up to R - 1 samples that are left over are
    not trained on in this epoch, so that all ranks take the same number of steps. `len` is that of the whole epoch,
    resumed or not. It is a `DistributedSampler` by type, so Lightning neither replaces nor wraps it.

    Args:
        sampler: The sampler that draws the order, of any type that has a length.
        dataset: What the indices point into.
        batch_size: Samples per batch and rank, to find the sample where a batch starts.
        trainer: Whose position to start from while it trains; without one, an epoch (`set_epoch`) starts at
            its first batch.
        num_replicas: The number of ranks.
        rank: This process among them.

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
        return iter(self.share(epoch)[batches_done * self.batch_size :])

    def position(self) -> tuple[int, int]:
        """Return the epoch, and the batch in it that is the next one."""
        if self.trainer is not None and self.trainer.training:
            return next_position(self.trainer)
        return self.epoch, 0

    def share(self, epoch: int) -> list[Any]:
        """Return the N // R indices of one epoch that are this rank's."""
        return self.order(epoch)[self.rank : self.total_size : self.num_replicas]

    def order(self, epoch: int) -> list[Any]:
        """Return the N indices of one epoch, of all ranks together.

        Raises:
            UserError: The sampler draws something that is not the index of a sample, or not as many as its length.
        """
        seed = derive_seed(self.seed, epoch)
        with isolate_rng(include_cuda=False):
            seed_generators(seed)
            if isinstance(generator := getattr(self.sampler, "generator", None), torch.Generator):
                generator.manual_seed(seed)
            if isinstance(self.sampler, DistributedSampler):
                self.sampler.set_epoch(epoch)
            try:
                drawn = list(self.sampler)
            except (TypeError, AttributeError) as error:
                raise UserError(f"sampler {self.name} cannot draw an order ({error}); {HOW_TO_TAKE}") from error
        if len(drawn) != self.length:
            raise UserError(f"sampler {self.name} draws {len(drawn)} samples, but its length is {self.length}")
        return self.checked(drawn)

    def checked(self, drawn: list[Any]) -> list[Any]:
        """Return what was drawn as a list of ints.

        Raises:
            UserError: Something in it is not the index of a sample.
        """
        size = len(self.dataset)  # type: ignore[arg-type]
        try:
            order = np.array(drawn)
        except (TypeError, ValueError):  # samples, say
            order = np.array(np.nan)
        if order.dtype not in (np.int64, np.int32) or order.ndim != 1:
            # SubsetRandomSampler without indices, for one, takes the dataset for its indices
            kind = type(drawn[0]).__name__
            raise UserError(f"sampler {self.name} must draw indices, which are ints, but draws {kind}s")
        if (outside := order[(order < 0) | (order >= size)]).size:
            raise UserError(f"sampler {self.name} draws index {outside[0]}, but there are only 0 to {size - 1}")
        return drawn if isinstance(drawn[0], int) else order.tolist()  # the second of tensors, say

    def check_batches(self, drop_last: bool) -> None:
        """Refuse an epoch without a batch.

        Raises:
            UserError: There are not enough samples.
        """
        if self.num_samples < (self.batch_size if drop_last else 1):
            raise UserError(
                f"an epoch of {self.num_samples} training samples per process has no batch of batch_size "
                f"{self.batch_size}: use a smaller batch_size, drop_last false, or more samples"
            )

    def is_repeatable(self) -> bool:
        """Say whether the sampler draws the same order again after the same seeding."""
        drawer = getattr(type(self.sampler).__iter__, "__module__", None) or ""
        # torch's own samplers are repeatable: to draw millions of samples twice would take seconds
        return drawer.startswith("torch.utils.data") or self.order(0) == self.order(0)


class DistributedEvalSampler(DistributedSampler[int]):
    """Every R-th sample, in order, for each of R ranks.

    torch's own sampler repeats samples until all ranks have equally many, and metrics then count them twice.
    """

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices())

    def __len__(self) -> int:
        return len(self._indices())

    def _indices(self) -> range:
        return range(self.rank, len(self.dataset), self.num_replicas)  # type: ignore[arg-type]


class Labelled(Protocol):
    """A dataset that knows the label of each of its samples."""

    @property
    def labels(self) -> Tensor:
        """Class indices, (N,)."""


class ClassBalancedSampler(WeightedRandomSampler):
    """Draws every class equally often, with replacement, however rare it is.

    Args:
        dataset: The training split; given by the DataModule.
        num_samples: How many samples make an epoch; None for as many as the split has.
    """

    def __init__(self, dataset: Labelled, num_samples: int | None = None) -> None:
        labels = dataset.labels
        if labels.is_floating_point():
            raise UserError("sampler ClassBalancedSampler needs class labels, but these targets are real numbers")
        weights = 1 / labels.bincount()[labels]
        super().__init__(weights.tolist(), num_samples or len(labels))
