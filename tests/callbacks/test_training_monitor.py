"""The speed is logged with the other values of its epoch."""

from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import Logger

from leyden.callbacks.training_monitor import TrainingMonitor


class Recorder(Logger):
    """Remembers the step of each value."""

    name = version = ""

    def __init__(self) -> None:
        super().__init__()
        self.steps: dict[str, list[int | None]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name in metrics:
            self.steps.setdefault(name, []).append(step)

    def log_hyperparams(self, params: Any) -> None:
        """Not asked for."""


class Scored(BoringModel):
    def on_train_epoch_end(self) -> None:
        self.log("score", 1.0)


class TwoOptimizers(Scored):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.zero_grad()
            self.manual_backward(self.layer(batch).sum())
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [super(TwoOptimizers, self).configure_optimizers()[0][0] for _ in range(2)]


@pytest.mark.parametrize(
    ("model", "accumulated", "last_steps"), [(Scored(), 1, [3, 7]), (Scored(), 3, [1, 3]), (TwoOptimizers(), 1, [3, 7])]
)
def test_the_speed_has_the_step_of_the_epochs_scores(
    model: LightningModule, accumulated: int, last_steps: list[int]
) -> None:
    logger = Recorder()
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    limits = {"max_epochs": 2, "limit_train_batches": 4, "limit_val_batches": 0}
    callbacks = [TrainingMonitor()]
    Trainer(
        accelerator="cpu", logger=logger, callbacks=callbacks, accumulate_grad_batches=accumulated, **limits, **quiet
    ).fit(model)
    assert logger.steps["score"] == logger.steps["samples_per_second"] == last_steps
