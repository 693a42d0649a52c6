"""Exact resume with the DataLoader of any DataModule or LightningModule."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, IterableDataset

from leyden.data.array_loader import LazyDataLoader
from leyden.data.samplers import ResumableSampler
from leyden.data.seeds import derive_seed, run_seed, seed_generators

Source = LightningDataModule | LightningModule
COPIED_OPTIONS = (  # the arguments of a DataLoader that its resumable copy gets as well
    "batch_size",
    "num_workers",
    "collate_fn",
    "pin_memory",
    "drop_last",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
    "pin_memory_device",
    "in_order",
)
log = logging.getLogger(__name__)


class SeedingSampler(ResumableSampler):
    """Draw (seed, index) for a `SeededDataset`; the seed is a function of the epoch, the batch and the rank."""

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        epoch, batch = self.position()
        indices = self.rank_indices(epoch)
        for start in range(batch * self.batch_size, len(indices), self.batch_size):
            seed = derive_seed(self.seed, epoch, start // self.batch_size, self.rank, 1)  # without 1: seed of the step
            yield from ((seed, index) for index in indices[start : start + self.batch_size])

    def check_indices(self, indices: list[Any]) -> list[Any]:
        """Return the indices unchecked: a dataset may have indices of any type."""
        return indices


class SeededDataset(Dataset[Any]):
    """Seed the global generators before each batch, so that random transforms do not depend on workers or a resume.

    The seed is that of `collate_fn` as well, which runs next in the same process. All attributes are those of the
    dataset.

    Args:
        dataset: A map-style dataset.
    """

    def __init__(self, dataset: Any) -> None:
        object.__setattr__(self, "dataset", dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[index]

    def __getitems__(self, items: list[tuple[int, Any]]) -> Any:
        """Return the samples of a batch, as a list, or as `__getitems__` of the dataset returns them."""
        seed_generators(items[0][0])
        indices = [index for _, index in items]
        get_batch = getattr(self.dataset, "__getitems__", None)
        return get_batch(indices) if get_batch else [self.dataset[index] for index in indices]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by `copy` and `pickle` before `dataset` is set
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:  # by a worker_init_fn
        setattr(self.dataset, name, value)


def seed_setup(model: LightningModule, data: LightningDataModule | None) -> None:
    """Seed the random draws of `setup`, such as the split of `random_split`, by the run's seed.

    A resumed run and a test then have the split of the training, whatever was drawn before.
    """
    source = model if data is None else data
    # a partial of a module's function can be pickled, and Lightning recognises the method in it
    source.setup = partial(_seeded, source.setup)  # type: ignore[method-assign]


def make_resumable(
    model: LightningModule, data: LightningDataModule | None, use_distributed_sampler: bool = True
) -> None:
    """Make `train_dataloader` return a loader that a resumed run starts at the next batch, or warn why it cannot.

    Args:
        model: The model.
        data: The data; None if the model has the loaders.
        use_distributed_sampler: The argument of the Trainer, which has no public attribute of it.
    """
    source = model if data is None else data
    if is_overridden("train_dataloader", source):
        hook = partial(_resumable, source, source.train_dataloader, use_distributed_sampler)
        source.train_dataloader = hook  # type: ignore[method-assign]


def _seeded(hook: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with isolate_rng(include_cuda=False):
        seed_generators(derive_seed(run_seed()))
        return hook(*args, **kwargs)


def _resumable(source: Source, hook: Callable[[], Any], use_distributed_sampler: bool) -> Any:
    trainer: Trainer = source.trainer  # type: ignore[assignment]
    loader = _seeded(hook)  # which may split the data, and runs again with `reload_dataloaders_every_n_epochs`
    why = why_not_resumable(loader, trainer)
    if why is None and not isinstance(loader, LazyDataLoader):
        loader = resumable_copy(loader, trainer, use_distributed_sampler)
    if why is None and not loader.sampler.is_repeatable():
        why = f"sampler {loader.sampler.name} has random numbers of its own, which no seed repeats"
    if why is not None and trainer.train_dataloader is None:  # at the first call only
        begin = "this resume is not exact" if trainer.ckpt_path else "a resume of this run will not be exact"
        rank_zero_only(log.warning)("%s: %s", begin, why)
    return loader


def why_not_resumable(loader: Any, trainer: Trainer) -> str | None:
    """Return why a resumed run cannot start a loader at its next batch; None if it can."""
    if trainer.overfit_batches:  # type: ignore[attr-defined]
        return "with --trainer.overfit_batches Lightning draws the order"
    if isinstance(loader, LazyDataLoader):
        return None
    kind = type(loader).__name__
    if type(loader) is not DataLoader:
        return f"train_dataloader returns a {kind}, and only a torch.utils.data.DataLoader can be entered at any batch"
    if isinstance(loader.dataset, IterableDataset):
        return f"{type(loader.dataset).__name__} is an IterableDataset, which cannot be entered at any sample"
    if type(loader.batch_sampler) is not BatchSampler:
        return f"the DataLoader has {'a batch_sampler of its own' if loader.batch_sampler else 'batch_size None'}"
    if not loader.in_order:
        return "the DataLoader has in_order False"
    for name, part in (("dataset", loader.dataset), ("sampler", loader.sampler)):
        try:
            len(part)  # type: ignore[arg-type]
        except (TypeError, NotImplementedError):
            return f"{name} {type(part).__name__} has no length"
    return None


def resumable_copy(loader: DataLoader[Any], trainer: Trainer, use_distributed_sampler: bool = True) -> LazyDataLoader:
    """Return a loader of the same batches, whose order and random draws are functions of seed, epoch and batch.

    Args:
        loader: The loader to copy.
        trainer: The Trainer of the run.
        use_distributed_sampler: Whether ranks share the samples of a loader without a `DistributedSampler`.

    Raises:
        UserError: An epoch would have no batch.
    """
    shared = use_distributed_sampler and not isinstance(loader.sampler, DistributedSampler)
    ranks = (trainer.distributed_sampler_kwargs or {}) if shared else {}
    batch_size: int = loader.batch_size  # type: ignore[assignment]
    sampler = SeedingSampler(loader.sampler, loader.dataset, batch_size, trainer, **ranks)
    sampler.check_batches(loader.drop_last)
    options = {name: getattr(loader, name) for name in COPIED_OPTIONS}
    return LazyDataLoader(trainer=trainer, dataset=SeededDataset(loader.dataset), sampler=sampler, **options)
