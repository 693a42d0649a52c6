"""The progress bar."""

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor

INTERVAL = 0.1  # seconds between two looks at the scores: reading them costs more than many a training step


class RunProgressBar(RichProgressBar):
    """Lightning's bar of an epoch, with the training loss and the time that the whole run still takes.

    Args:
        refresh_rate: How often a second it is drawn.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._looked = 0.0
        self._loss: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._started, self._first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on, a few times a second and at an epoch's last batch."""
        now = time.monotonic()
        if now - self._looked > INTERVAL or trainer.is_last_batch:
            self._looked = now
            self._loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what is shown: the scores of the validation, the loss of this batch, the time left."""
        shown: dict[str, Any] = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)  # of a logger: it is the run's directory here
        if trainer.training:
            if isinstance(self._loss, Tensor) and self._loss.numel() == 1:  # a step of one's own may return anything
                shown = {"loss": float(self._loss), **shown}
            done = trainer.global_step - self._first_step
            to_do = trainer.estimated_stepping_batches - trainer.global_step
            if done > 0 and to_do < float("inf"):
                seconds = int((time.monotonic() - self._started) * to_do / done)
                shown["left"] = str(timedelta(seconds=max(0, seconds)))
        return shown
