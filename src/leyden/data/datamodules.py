"""What all datasets share: arrays in memory, an honest split, loaders, and the work done on whole batches."""

import atexit
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler, Sampler

from leyden.data.array_loader import ArrayDataLoader
from leyden.data.array_loader import Batch as Batch
from leyden.data.samplers import DistributedEvalSampler, ResumableSampler
from leyden.errors import UserError

NO_RANKS = "which is not needed here: processes that train together share the order of any sampler; leave it out"
SHARED_ARRAYS = "LEYDEN_SHARED_ARRAYS"  # tells the processes that this one starts: its number, and a file


class ArrayDataset(Dataset[Batch]):
    """Some samples of two arrays in memory, fetched a batch at a time.

    The splits of a dataset are such views; the arrays themselves are held once.

    Args:
        x: Inputs, (N, ...), for example uint8 images (N, C, H, W).
        y: Targets, (N,) or (N, ...).
        indices: Which of the N samples, (M,); None for all.
    """

    def __init__(self, x: Tensor, y: Tensor, indices: Tensor | None = None) -> None:
        self.x = x
        self.y = y
        self.indices = torch.arange(len(y), device=y.device) if indices is None else indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Batch:
        i = self.indices[index]
        return self.x[i], self.y[i]

    def __getitems__(self, indices: list[int]) -> Batch:
        """One whole batch; the DataLoader prefers this method to asking sample by sample."""
        # index_select copies whole rows: five times as fast as x[i] on uint8 images, and no negative index;
        # by numpy, because torch.tensor takes its time with a list
        i = self.indices.index_select(0, torch.from_numpy(np.array(indices)).to(self.indices.device))
        return self.x.index_select(0, i), self.y.index_select(0, i)

    @property
    def labels(self) -> Tensor:
        """The targets of these samples, (M, ...)."""
        return self.y[self.indices]


class ArrayDataModule(LightningDataModule, ABC):
    """A dataset that fits in memory.

    A subclass sets `input_shape`, and `num_classes` or `out_features`, and implements `load_arrays`. After
    `setup` the splits are `train_set`, `val_set` and `test_set`. The validation split is drawn from the
    training samples by its own seed and depends on nothing else; the test samples are never touched, and
    `predict` runs on them.

    Args:
        val_size: How many training samples to hold out for validation.
        batch_size: Samples per batch, and per process when several train together.
        split_seed: Seed of the draw of the validation samples.
        stratify: Whether to hold out the same fraction of each class.
        num_workers: Processes that load batches ahead; 0 loads in the main process, the faster way for data
            in memory.
        pin_memory: Whether to put batches in page-locked memory, from where they reach a GPU faster.
        drop_last: Whether to leave out the last training batch of an epoch where it is smaller than the
            others. Evaluation never leaves out any.
        sampler: What draws the training samples, by index into the training split: a sampler, or a class that
            is given the training split. None shuffles. Evaluation goes through all samples in order.
        persistent_workers: Whether workers outlive an epoch.
        prefetch_factor: Batches that each worker loads ahead; None leaves it to torch.
        timeout: Seconds after which a worker that has not delivered its batch counts as hung, which ends the run.
        on_device: Whether to hold the arrays on the device that trains, so that a GPU waits for no copy. They must
            fit there, and be indexed there: `num_workers` stays 0 and `pin_memory` false.
    """

    input_shape: tuple[int, ...]  # of one sample, as the network sees it
    num_classes: int  # for classification
    out_features: int  # for regression
    train_set: ArrayDataset
    val_set: ArrayDataset
    test_set: ArrayDataset

    def __init__(
        self,
        val_size: int,
        batch_size: int = 64,
        split_seed: int = 0,
        stratify: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        drop_last: bool = False,
        # bare types: jsonargparse would build `Sampler[int]` itself, not the subclass that the user names
        sampler: Sampler | Callable[[Dataset], Sampler] | None = None,  # type: ignore[type-arg]
        persistent_workers: bool = False,
        prefetch_factor: int | None = None,
        timeout: float = 300.0,
        on_device: bool = False,
    ) -> None:
        super().__init__()
        self.val_size = val_size
        self.batch_size = batch_size
        self.split_seed = split_seed
        self.stratify = stratify
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.sampler = sampler
        self.persistent_workers = persistent_workers
        self.prefetch_factor = prefetch_factor
        self.timeout = timeout
        self.on_device = on_device

    @abstractmethod
    def load_arrays(self) -> tuple[Batch, Batch]:
        """Returns the training and the test samples, each as inputs (N, ...) and targets (N, ...)."""

    def setup(self, stage: str | None = None) -> None:
        """Loads the arrays, checks them and splits them, once for all stages.

        Raises:
            UserError: If the labels do not fit `num_classes`, `val_size` or `stratify` does not fit the data, or an
                option does not fit `on_device`.
        """
        if hasattr(self, "test_set"):
            _, _, file = os.environ.get(SHARED_ARRAYS, "").partition(":")
            if file and torch.distributed.is_initialized():  # all processes have met, and mapped it before
                Path(file).unlink(missing_ok=True)  # so that nothing stays behind, however the run ends
            return
        if self.on_device and (self.num_workers or self.pin_memory):
            raise UserError("with on_device the arrays are where they are needed: num_workers 0 and pin_memory false")
        (x, y), (x_test, y_test) = self._load_once_a_machine()
        self._check_arrays("training", x, y)
        self._check_arrays("test", x_test, y_test)
        if hasattr(self, "num_classes"):
            self._check_labels(torch.cat([y, y_test]))
        if not 0 < self.val_size < len(y):
            raise UserError(
                f"val_size must be 1 to {len(y) - 1} of the {len(y)} training samples, but is {self.val_size}"
            )
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.split_seed))
        if self.stratify:
            if not hasattr(self, "num_classes") or y.ndim > 1:
                raise UserError(
                    f"data.stratify needs one class label for each sample, which {type(self).__name__} does not have: "
                    "leave it out"
                )
            order = _stratified(order, y, self.val_size)
        if self.on_device and self.trainer is not None:
            device = self.trainer.strategy.root_device
            x, y, x_test, y_test, order = (array.to(device) for array in (x, y, x_test, y_test, order))
        self.train_set = ArrayDataset(x, y, order[self.val_size :].sort().values)
        self.val_set = ArrayDataset(x, y, order[: self.val_size].sort().values)
        self.test_set = ArrayDataset(x_test, y_test)

    def _load_once_a_machine(self) -> tuple[Batch, Batch]:
        """Loads the arrays. A process that starts others lays them in a file, which all map into their memory."""
        parent, _, file = os.environ.get(SHARED_ARRAYS, "").partition(":")
        if parent != str(os.getppid()):
            arrays = self.load_arrays()
            if self.trainer is None or self.trainer.num_devices == 1 or "LOCAL_RANK" in os.environ:
                return arrays  # alone, or started together with the others
            with tempfile.NamedTemporaryFile(prefix="leyden-", suffix=".pt", delete=False) as shared:
                file = shared.name
                atexit.register(Path(file).unlink, missing_ok=True)
                torch.save(arrays, shared)
            os.environ[SHARED_ARRAYS] = f"{os.getpid()}:{file}"
        mapped: tuple[Batch, Batch] = torch.load(file, mmap=True, weights_only=True)
        return mapped

    def _check_arrays(self, split: str, x: Tensor, y: Tensor) -> None:
        """Refuse arrays that do not hold as many inputs as targets, or from which a worker could not send a batch."""
        where = f"{type(self).__name__}.load_arrays: the {split} arrays"
        if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
            raise UserError(f"{where} are {type(x).__name__} and {type(y).__name__}, but must be tensors")
        if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
            raise UserError(f"{where} are {tuple(x.shape)} and {tuple(y.shape)}, but must be (N, ...) with the same N")
        if x.requires_grad or y.requires_grad:
            raise UserError(f"{where} require a gradient: detach them")

    def _check_labels(self, y: Tensor) -> None:
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= self.num_classes:
            raise UserError(
                f"{type(self).__name__} has labels {low} to {high}, but num_classes is {self.num_classes}: "
                f"they must be 0 to {self.num_classes - 1}"
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        """The training split, in an order that depends on the run's seed and the epoch alone.

        Raises:
            UserError: If an epoch would have no batch, or torch refuses an option.
        """
        sampler = RandomSampler if self.sampler is None else self.sampler
        try:
            drawer = sampler if isinstance(sampler, Sampler) else sampler(self.train_set)
        except (TypeError, ValueError, RuntimeError) as error:  # without processes, DistributedSampler raises the last
            if "process group" in str(error):
                raise UserError(f"data.sampler is a DistributedSampler, {NO_RANKS}") from error
            raise UserError(f"data.sampler cannot be made: {error}") from error
        if isinstance(drawer, DistributedSampler):
            raise UserError(f"data.sampler is a {type(drawer).__name__}, {NO_RANKS}")
        world_size, rank = self._ranks()
        sampler = ResumableSampler(drawer, self.train_set, self.batch_size, self.trainer, world_size, rank)
        sampler.check_batches(self.drop_last)
        return self._loader(self.train_set, sampler, self.drop_last, self.trainer)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split, in order."""
        return self._evaluation_loader(self.val_set)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test split, in order."""
        return self._evaluation_loader(self.test_set)

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test split, in order."""
        return self._evaluation_loader(self.test_set)

    def _evaluation_loader(self, dataset: ArrayDataset) -> DataLoader[Batch]:
        world_size, rank = self._ranks()
        # one process keeps torch's own sequential sampler, which Lightning knows how to treat everywhere
        sampler = DistributedEvalSampler(dataset, world_size, rank) if world_size > 1 else None
        return self._loader(dataset, sampler, drop_last=False)

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _loader(
        self, dataset: ArrayDataset, sampler: Sampler[int] | None, drop_last: bool, trainer: Trainer | None = None
    ) -> DataLoader[Batch]:
        try:
            return ArrayDataLoader(
                trainer=trainer,
                dataset=dataset,
                batch_size=self.batch_size,
                sampler=sampler,
                drop_last=drop_last,
                num_workers=self.num_workers,
                pin_memory=self.pin_memory,
                persistent_workers=self.persistent_workers,
                prefetch_factor=self.prefetch_factor,
                timeout=self.timeout if self.num_workers else 0,
            )
        except ValueError as error:
            raise UserError(f"DataLoader: {error}") from error


def _stratified(order: Tensor, y: Tensor, val_size: int) -> Tensor:
    """Reorder a permutation (N,) so that its first `val_size` samples hold the same fraction of each class.

    Of class c these are val_size n_c / N samples, rounded by the largest remainder (on a tie, to the lower class); the
    permutation says which.

    Args:
        order: Permutation of the samples, (N,).
        y: Labels, (N,).
        val_size: Number of samples in front.
    """
    labels = y[order]
    quotas = val_size * labels.bincount()  # (C,), in units of 1 / N
    counts = quotas // len(y)
    remainders = quotas % len(y)
    counts[remainders.argsort(descending=True, stable=True)[: val_size - int(counts.sum())]] += 1
    in_front = torch.zeros(len(y), dtype=torch.bool)
    for label, count in enumerate(counts.tolist()):
        in_front[(labels == label).nonzero().flatten()[:count]] = True
    return torch.cat([order[in_front], order[~in_front]])


class ImageDataModule(ArrayDataModule):
    """Images as uint8 (N, C, H, W), augmented and normalised a batch at a time on the device that trains.

    Args:
        mean: What to subtract from pixels in [0, 1], one number a channel, or one for all.
        std: What to divide by after that, likewise.
        augment: Modules that change training batches (B, C, H, W), still uint8, in the order given; see
            `leyden.data.transforms`. Validation, test and prediction see the images as they are.
        kwargs: The options of `ArrayDataModule`.
    """

    pixel_max: int = 255  # the pixel that is 1.0 on the scale of mean and std

    def __init__(
        self,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        augment: list[nn.Module] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.mean = torch.tensor(mean).reshape(-1, 1, 1)  # (C, 1, 1)
        self.std = torch.tensor(std).reshape(-1, 1, 1)
        self.augment = augment or []

    def setup(self, stage: str | None = None) -> None:
        """Loads, checks and splits, and checks `mean` and `std`.

        Raises:
            UserError: If the data or an option is wrong.
        """
        channels = self.input_shape[0]
        for name, constant in [("mean", self.mean), ("std", self.std)]:
            if len(constant) not in (1, channels):
                raise UserError(f"{name} has {len(constant)} numbers, but an image has {channels} channels")
        if not (self.std > 0).all():
            raise UserError("std must be positive: pixels are divided by it")
        super().setup(stage)

    def normalize(self, x: Tensor) -> Tensor:
        """Returns pixels (B, C, H, W) as the floats that the network sees."""
        self.mean = self.mean.to(x.device)  # these copy once; afterwards they are there already
        self.std = self.std.to(x.device)
        # in place: one new array instead of four
        return x.to(torch.float32, copy=True).div_(self.pixel_max).sub_(self.mean).div_(self.std)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augments a training batch, and normalises every batch."""
        if isinstance(batch, Tensor):  # the model's example input, on its way to the printed summary
            return batch
        x, y = batch
        if self.augment and self.trainer is not None and self.trainer.training:
            for transform in self.augment:
                x = transform(x)
        return self.normalize(x), y
