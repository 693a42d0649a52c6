"""DataLoaders that start at any batch, and one whose dataset returns whole batches."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from leyden.data.array_dataset import Batch
from leyden.data.seeds import run_seed, seed_step
from leyden.data.workers import end_workers_at_exit, start_worker


class LazyDataLoader(DataLoader[Any]):
    """A DataLoader that starts its sampler only when the first batch is requested, and seeds training steps.

    With workers, torch's starts it at once, which can be before Lightning has restored the position of a resumed run.
    Lightning fetches a batch of a loader that has a length just before its step. So the draws of a step after that
    (augmentation on the device, dropout) are a function of its position.

    Args:
        trainer: The Trainer whose steps to seed while it trains; None for a loader that evaluates.
        worker_init_fn: As for `DataLoader`.
        kwargs: The other arguments of `DataLoader`.
    """

    def __init__(
        self,
        trainer: Trainer | None = None,
        worker_init_fn: Callable[[int], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs, worker_init_fn=partial(start_worker, worker_init_fn))
        self.trainer = trainer
        if self.num_workers:
            end_workers_at_exit()

    def batches(self) -> Iterable[Any]:
        """Return the batches of one epoch, as `DataLoader` makes them."""
        return super().__iter__()

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            if self.trainer is None or not self.trainer.training:
                yield from self.batches()
                return
            device, seed = self.trainer.strategy.root_device, run_seed()
            for batch in self.batches():
                seed_step(self.trainer, device, seed)
                yield batch
        except (ConnectionError, EOFError) as error:  # sometimes the first sign that a worker has died
            raise RuntimeError(f"DataLoader worker (pid unknown) has gone: {error}") from error


class ArrayDataLoader(LazyDataLoader):
    """A DataLoader whose dataset returns whole batches.

    Args:
        kwargs: The arguments of `LazyDataLoader` but `collate_fn`.
    """

    def __init__(self, **kwargs: Any) -> None:
        # for each tensor of a worker torch opens a file and a connection; arrays go through the existing pipe, which
        # is faster. Pinned memory works with tensors only.
        self.as_numpy = kwargs["num_workers"] > 0 and not kwargs["pin_memory"]
        super().__init__(**kwargs, collate_fn=_to_numpy if self.as_numpy else _unchanged)

    def batches(self) -> Iterable[Batch]:
        """Return the batches of one epoch as tensors."""
        batches = super().batches()
        return ((torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches) if self.as_numpy else batches


def _unchanged(batch: Any) -> Any:
    return batch


def _to_numpy(batch: Any) -> tuple[Any, Any]:
    """Turn a batch into NumPy arrays, which share its memory."""
    x, y = batch
    return x.numpy(), y.numpy()
