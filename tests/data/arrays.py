"""Small DataModules, and what the tests of this folder do with them."""

from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from leyden.data.array_dataset import Batch
from leyden.data.datamodules import ArrayDataModule, ImageDataModule


class Hundred(ArrayDataModule):
    """Training samples 0 to 99 and test samples 100 to 119, each its own number."""

    input_shape = (1,)
    num_classes = 10
    reads = 0

    def load_arrays(self) -> tuple[Batch, Batch]:
        self.reads += 1
        x, y = torch.arange(120).unsqueeze(1), torch.arange(120) % 10
        return (x[:100], y[:100]), (x[100:], y[100:])


class Images(ImageDataModule):
    """Random images of three channels."""

    input_shape = (3, 8, 8)
    num_classes = 2

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"val_size": 8, "batch_size": 8, "mean": 0.5, "std": 0.25, **kwargs})

    def load_arrays(self) -> tuple[Batch, Batch]:
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(1, 256, (48, *self.input_shape), dtype=torch.uint8, generator=generator)
        y = torch.arange(48) % 2
        return (x[:40], y[:40]), (x[40:], y[40:])


class Recorder(LightningModule):
    """Keeps every batch it is given, and uses up random numbers as dropout would."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.train_batches: list[Tensor] = []
        self.eval_batches: list[Tensor] = []
        self.random: list[float] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.train_batches.append(batch[0])
        self.random.append(float(torch.rand(())))
        return self.weight.sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.eval_batches.append(batch[0])
        torch.rand(7)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.eval_batches.append(batch[0])

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return batch[0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # as a schedule over the whole run does; Lightning then makes the loader before it restores a run
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(**kwargs: Any) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{"accelerator": "cpu", "max_epochs": 2, **quiet, **kwargs})


def ready(dm: ArrayDataModule) -> Any:
    dm.setup()
    return dm


def numbers(loader: DataLoader[Batch]) -> list[int]:
    return [int(i) for x, _ in loader for i in x]


class OnDevice:
    """As much of a Trainer as `setup` looks at."""

    def __init__(self, device: str, num_devices: int = 1) -> None:
        self.strategy = SimpleNamespace(root_device=torch.device(device))
        self.num_devices = num_devices
        self.world_size, self.global_rank, self.training = 1, 0, False
