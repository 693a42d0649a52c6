"""The average of the last weights is their arithmetic mean, and before that the current weights."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from leyden.callbacks.swa import SWA
from leyden.errors import UserError


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        loss: Tensor = (self.layer(batch[0]) - 1).square().mean()
        return loss

    validation_step = training_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Record(Callback):
    """The weights after each step, and those that are validated."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self.validated: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.steps.append(pl_module.layer.weight.detach().clone())

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        self.validated.append(pl_module.layer.weight.detach().clone())


def train(tmp_path: Path, start: float, epochs: int = 4, **options: object) -> tuple[Record, Line]:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(12, 2)), batch_size=4)  # 3 steps an epoch
    record, model = Record(), Line()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_epochs=epochs,
        callbacks=[SWA(start), record],
        **quiet,
        **options,  # type: ignore[arg-type]
    )
    trainer.fit(model, loader, DataLoader(TensorDataset(torch.randn(4, 2))))
    return record, model


@pytest.mark.parametrize(("start", "first"), [(0.5, 6), (0.75, 9), (0.0, 0)])
def test_the_weights_at_the_end_are_the_mean_of_those_after_the_last_steps(
    start: float, first: int, tmp_path: Path
) -> None:
    record, model = train(tmp_path, start, num_sanity_val_steps=0)
    assert len(record.steps) == 12
    torch.testing.assert_close(model.layer.weight, torch.stack(record.steps[first:]).mean(0))


def test_validation_scores_the_current_weights_until_averaging_starts(tmp_path: Path) -> None:
    record, _ = train(tmp_path, 0.5, num_sanity_val_steps=0)
    epochs = record.validated[::4]  # four batches each
    assert all(epochs[i].equal(record.steps[3 * i + 2]) for i in (0, 1))
    torch.testing.assert_close(epochs[2], torch.stack(record.steps[6:9]).mean(0))


@pytest.mark.parametrize("start", [-0.1, 1.0])
def test_a_start_outside_of_the_training_is_refused(start: float) -> None:
    with pytest.raises(UserError, match="at least 0 and below 1"):
        SWA(start)


def test_a_training_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs the number of steps"):
        train(tmp_path, 0.5, epochs=-1)
