"""Exact resume of loaders that nobody here wrote: a stock DataLoader of any DataModule or LightningModule."""

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
from leyden.data.samplers import ResumableSampler, derive_seed, run_seed, seed_generators

Source = LightningDataModule | LightningModule
KEPT = (  # the arguments of a stock DataLoader that its resumable copy has as well
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
    """Draw (seed, index) for a `SeededDataset`: the seed is a function of the epoch, the batch and the rank."""

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        epoch, batch = self.position()
        share = self.share(epoch)
        for start in range(batch * self.batch_size, len(share), self.batch_size):
            seed = derive_seed(self.seed, epoch, start // self.batch_size, self.rank, 1)  # without 1, that of the step
            yield from ((seed, index) for index in share[start : start + self.batch_size])

    def checked(self, drawn: list[Any]) -> list[Any]:
        """Return what was drawn: what an index is, the dataset decides."""
        return drawn


class SeededDataset(Dataset[Any]):
    """Seed the global generators before each batch, so that random transforms do not depend on workers or on a resume.

    `collate_fn` draws from the same seed, as it runs next in the same process. All attributes are the dataset's own.

    Args:
        dataset: Any map-style dataset.
    """

    def __init__(self, dataset: Any) -> None:
        object.__setattr__(self, "dataset", dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        return self.dataset[index]

    def __getitems__(self, items: list[tuple[int, Any]]) -> Any:
        """Return the samples of a batch, as a list, or as the dataset's own `__getitems__` has them."""
        seed_generators(items[0][0])
        indices = [index for _, index in items]
        of_many = getattr(self.dataset, "__getitems__", None)
        return of_many(indices) if of_many else [self.dataset[index] for index in indices]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a copy is looked at before it has its dataset
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:  # by a worker_init_fn, which finds this as its dataset
        setattr(self.dataset, name, value)


def seed_setup(model: LightningModule, data: LightningDataModule | None) -> None:
    """Let what `setup` draws, such as the split of `random_split`, depend on the run's seed alone.

    A resumed run and a test then have the split that the training had, whatever was drawn before.
    """
    source = model if data is None else data
    # a partial of a function of a module can be sent to other processes, and Lightning looks behind it
    source.setup = partial(_seeded, source.setup)  # type: ignore[method-assign]


def make_resumable(model: LightningModule, data: LightningDataModule | None) -> None:
    """Let training batches come in an order that a resumed run enters where it stopped, or say why it cannot."""
    source = model if data is None else data
    if is_overridden("train_dataloader", source):
        source.train_dataloader = partial(_resumable, source, source.train_dataloader)  # type: ignore[method-assign]


def _seeded(hook: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with isolate_rng(include_cuda=False):
        seed_generators(derive_seed(run_seed()))
        return hook(*args, **kwargs)


def _resumable(source: Source, hook: Callable[[], Any]) -> Any:
    trainer: Trainer = source.trainer  # type: ignore[assignment]
    loader = _seeded(
        hook
    )  # it may split the data as well, and is called again with `reload_dataloaders_every_n_epochs`
    why = why_not_resumable(loader, trainer)
    if why is None and not isinstance(loader, LazyDataLoader):
        loader = resumable_copy(loader, trainer)
    if why is None and not loader.sampler.is_repeatable():
        why = f"sampler {loader.sampler.name} has random numbers of its own, which no seed repeats"
    if why is not None and trainer.train_dataloader is None:  # not at a reload
        begin = "this resume is not exact" if trainer.ckpt_path else "a resume of this run will not be exact"
        rank_zero_only(log.warning)("%s: %s", begin, why)
    return loader


def why_not_resumable(loader: Any, trainer: Trainer) -> str | None:
    """Return the reason why a loader cannot be entered where a run stopped; None where it can."""
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


def resumable_copy(loader: DataLoader[Any], trainer: Trainer) -> LazyDataLoader:
    """Return a loader of the same batches, whose order and random draws are functions of seed, epoch and batch.

    Raises:
        UserError: An epoch would have no batch.
    """
    # there is no public way to ask whether `--trainer.use_distributed_sampler` is false
    shared = trainer._accelerator_connector.use_distributed_sampler and not isinstance(
        loader.sampler, DistributedSampler
    )
    ranks = (trainer.distributed_sampler_kwargs or {}) if shared else {}
    batch_size: int = loader.batch_size  # type: ignore[assignment]
    sampler = SeedingSampler(loader.sampler, loader.dataset, batch_size, trainer, **ranks)
    sampler.check_batches(loader.drop_last)
    kept = {name: getattr(loader, name) for name in KEPT}
    return LazyDataLoader(trainer=trainer, dataset=SeededDataset(loader.dataset), sampler=sampler, **kept)
