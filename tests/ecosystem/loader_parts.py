"""DataModules, samplers and modules as other people write them, which know nothing of this project."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
    default_collate,
    random_split,
)
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC
from torchvision.datasets import FakeData
from torchvision.transforms import ColorJitter, Compose, Lambda, RandomCrop, ToTensor

TRANSFORMS = Compose(  # each draws from another generator
    [
        RandomCrop(8, padding=1),
        ColorJitter(brightness=0.5),
        ToTensor(),
        Lambda(lambda x: x.flip(-1) if random.random() < 0.5 else x),
        Lambda(lambda x: x + 0.1 * np.random.randn()),
    ]
)


def mixed(samples: list[Any]) -> Any:
    """Collate with MixUp, whose share is drawn once a batch."""
    x, y = default_collate(samples)
    share = np.random.beta(0.4, 0.4)
    return share * x + (1 - share) * x[torch.randperm(len(x))], y


class FakeImages(LightningDataModule):
    """Random transforms of each sample, and a split whose draw is left to the global seed."""

    def __init__(self, num_workers: int = 0, persistent_workers: bool = False, collate: bool = False) -> None:
        super().__init__()
        self.options = {"batch_size": 8, "num_workers": num_workers, "persistent_workers": persistent_workers}
        self.collate = collate

    def setup(self, stage: str) -> None:
        """Draw the split anew each time."""
        everything = FakeData(110, (3, 8, 8), num_classes=4, transform=TRANSFORMS)
        self.train, self.val = random_split(everything, [90, 20])

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffle."""
        return DataLoader(self.train, shuffle=True, collate_fn=mixed if self.collate else None, **self.options)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move it by hand."""
        return [part.to(device) for part in batch]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment the whole batch."""
        x, y = batch
        return x + np.random.rand() + 0.1 * torch.rand_like(x), y

    def val_dataloader(self) -> DataLoader[Any]:
        """Shuffle the validation as well, which draws from the global generator."""
        return DataLoader(self.val, batch_size=8, shuffle=True)


class ShuffledByPython(Sampler[int]):
    """An order by Python's own generator; the argument has no annotation."""

    def __init__(self, dataset) -> None:  # type: ignore[no-untyped-def]
        self.dataset = dataset

    def __iter__(self) -> Iterator[int]:
        order = list(range(len(self.dataset)))
        random.shuffle(order)
        return iter(order)

    def __len__(self) -> int:
        return len(self.dataset)


class Typed(ShuffledByPython):
    """The same, annotated."""

    def __init__(self, dataset: Dataset) -> None:  # type: ignore[type-arg]
        super().__init__(dataset)


class Unsized(Sampler[int]):
    """A sampler that does not say how many samples it draws."""

    def __init__(self, dataset: Dataset) -> None:  # type: ignore[type-arg]
        self.dataset = dataset

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.dataset)))  # type: ignore[arg-type]


class OwnNumbers(Typed):
    """A sampler with random numbers of its own, which go on from epoch to epoch."""

    generator_of_its_own = np.random.default_rng(0)

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator_of_its_own.permutation(len(self.dataset)).tolist())


class Stream(IterableDataset[Any]):
    """Samples without indices."""

    def __iter__(self) -> Iterator[Any]:
        return iter(TENSORS)


class OwnLoader(DataLoader[Any]):
    """A DataLoader of another type."""


def tensors(count: int) -> TensorDataset:
    """Return images and labels that are always the same."""
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(
        torch.rand(count, 3, 8, 8, generator=generator), torch.randint(4, (count,), generator=generator)
    )


TENSORS = tensors(90)
LOADERS = {
    "shuffle": lambda: DataLoader(TENSORS, batch_size=8, shuffle=True),
    "python": lambda: DataLoader(TENSORS, batch_size=8, sampler=ShuffledByPython(TENSORS)),
    "own numbers": lambda: DataLoader(TENSORS, batch_size=8, sampler=OwnNumbers(TENSORS)),
    "stream": lambda: DataLoader(Stream(), batch_size=8),
    "batch sampler": lambda: DataLoader(TENSORS, batch_sampler=Batches(RandomSampler(TENSORS), 8, drop_last=False)),
    "no batches": lambda: DataLoader([(x[None], y[None]) for x, y in TENSORS], batch_size=None),  # type: ignore[arg-type]
    "own loader": lambda: OwnLoader(TENSORS, batch_size=8, shuffle=True),
    "unsized": lambda: DataLoader(TENSORS, batch_size=8, sampler=Unsized(TENSORS)),
    "combined": lambda: CombinedLoader([DataLoader(TENSORS, batch_size=8), DataLoader(TENSORS, batch_size=9)]),
}


class Batches(BatchSampler):
    """A batch sampler of another type."""


class Loaders(LightningDataModule):
    """A training loader of some kind."""

    def __init__(self, kind: str = "shuffle") -> None:
        super().__init__()
        self.kind = kind

    def setup(self, stage: str) -> None:
        """Choose the loader, not before: the command line asks all of them for a text as it makes the module."""
        self.make = LOADERS[self.kind]

    def train_dataloader(self) -> Any:
        """Return the loader."""
        return self.make()

    def val_dataloader(self) -> DataLoader[Any]:
        """Return a few samples in order."""
        return DataLoader(tensors(16), batch_size=8)


class Tutorial(LightningModule):
    """A classifier as in a tutorial: dropout, MixUp by NumPy in the step, epoch means by `self.log`."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 4))
        self.accuracy = MulticlassAccuracy(4)
        self.area = MulticlassAUROC(4)  # with a list for a state

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Mix the images by a random share."""
        x, y = batch
        share = np.random.beta(0.4, 0.4)
        loss = F.cross_entropy(self.network(share * x + (1 - share) * x.flip(0)), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("train_worst", loss, on_step=False, on_epoch=True, reduce_fx="max")
        self.accuracy(self.network(x), y)
        self.log("train_acc", self.accuracy, on_step=False, on_epoch=True)
        self.area.update(self.network(x), y)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log a metric that Lightning does not reset."""
        if self.area.update_called:
            self.log("train_auroc", self.area.compute())
            self.area.reset()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss."""
        self.log("val/loss", F.cross_entropy(self.network(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        """Return Adam."""
        return torch.optim.Adam(self.parameters())


class FirstOfTwo(Tutorial):
    """Trains on the first of two batches, and ignores the other."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Take the first."""
        return super().training_step(batch[0], batch_idx)


class TwoOptimizers(Tutorial):
    """Two optimizers that step by hand, as those of a GAN."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        """Step both."""
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.zero_grad()
            self.manual_backward(F.cross_entropy(self.network(batch[0]), batch[1]))
            optimizer.step()
        self.log("train_loss_step", F.cross_entropy(self.network(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        """Return one optimizer a layer."""
        layers = (self.network[1], self.network[4])
        return [torch.optim.SGD(layer.parameters(), lr=0.05) for layer in layers]
