"""The DataLoaders of the three splits."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler, Sampler

from leyden.data.array_dataset import ArrayDataset, Batch
from leyden.data.array_loader import ArrayDataLoader
from leyden.data.samplers import DistributedEvalSampler, ResumableSampler
from leyden.data.split import check_folds
from leyden.errors import UserError

NO_RANKS = "which is not needed here: processes that train together share the order of any sampler; leave it out"


class SplitLoaders(LightningDataModule):
    """The DataLoaders of `train_set`, `val_set` and `test_set`, which a subclass sets in `setup`.

    Args:
        batch_size: Samples per batch, and per process when several train together.
        num_workers: Processes that load batches ahead; 0 loads in the main process, which is faster for arrays in
            memory.
        pin_memory: Whether to put batches into page-locked memory, from which copies to a GPU are faster.
        drop_last: Whether to leave out the last training batch of an epoch if it is smaller than the others.
            Evaluation uses all samples.
        sampler: Draws the training samples, by index into the training split: a sampler, or a class that is called
            with the training split. None shuffles. Evaluation takes all samples in order.
        persistent_workers: Whether workers stay alive between epochs.
        prefetch_factor: Batches that each worker loads ahead; None for torch's default.
        timeout: Seconds after which a worker without a batch counts as hung, which ends the run.
        folds: Number of parts into which to divide the training and validation samples, for cross-validation; None for
            a single validation split.
        fold: Which of the parts is the validation split, 0 to `folds` - 1; the others are the training split.
    """

    train_set: ArrayDataset
    val_set: ArrayDataset
    test_set: ArrayDataset

    def __init__(
        self,
        batch_size: int = 64,
        num_workers: int = 0,
        pin_memory: bool = False,
        drop_last: bool = False,
        # bare types: jsonargparse would build `Sampler[int]` itself instead of the subclass that the user names
        sampler: Sampler | Callable[[Dataset], Sampler] | None = None,  # type: ignore[type-arg]
        persistent_workers: bool = False,
        prefetch_factor: int | None = None,
        timeout: float = 300.0,
        folds: int | None = None,
        fold: int | None = None,
    ) -> None:
        super().__init__()
        check_folds(folds, fold)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.sampler = sampler
        self.persistent_workers = persistent_workers
        self.prefetch_factor = prefetch_factor
        self.timeout = timeout
        self.folds = folds
        self.fold = fold

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training split, in an order that depends on the run's seed and the epoch only.

        Raises:
            UserError: An epoch would have no batch, or torch rejects an option.
        """
        sampler = RandomSampler if self.sampler is None else self.sampler
        try:
            sampler = sampler if isinstance(sampler, Sampler) else sampler(self.train_set)
        except (TypeError, ValueError, RuntimeError) as error:
            if "process group" in str(error):  # a RuntimeError of DistributedSampler in a single process
                raise UserError(f"data.sampler is a DistributedSampler, {NO_RANKS}") from error
            raise UserError(f"data.sampler cannot be made: {error}") from error
        if isinstance(sampler, DistributedSampler):
            raise UserError(f"data.sampler is a {type(sampler).__name__}, {NO_RANKS}")
        ranks = self._world_size_and_rank()
        resumable = ResumableSampler(sampler, self.train_set, self.batch_size, self.trainer, *ranks)
        resumable.check_batches(self.drop_last)
        return self._loader(self.train_set, sampler=resumable, drop_last=self.drop_last, trainer=self.trainer)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation split, in order."""
        return self._evaluation_loader(self.val_set)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test split, in order."""
        return self._evaluation_loader(self.test_set)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the test split, in order."""
        return self._evaluation_loader(self.test_set)

    def _evaluation_loader(self, dataset: ArrayDataset) -> DataLoader[Batch]:
        world_size, rank = self._world_size_and_rank()
        # a single process keeps torch's sequential sampler, which Lightning recognises
        sampler = DistributedEvalSampler(dataset, world_size, rank) if world_size > 1 else None
        return self._loader(dataset, sampler=sampler)

    def _world_size_and_rank(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _loader(self, dataset: ArrayDataset, **options: Any) -> DataLoader[Batch]:
        try:
            return ArrayDataLoader(
                dataset=dataset,
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                pin_memory=self.pin_memory,
                persistent_workers=self.persistent_workers,
                prefetch_factor=self.prefetch_factor,
                timeout=self.timeout if self.num_workers else 0,
                **options,
            )
        except ValueError as error:
            raise UserError(f"DataLoader: {error}") from error
