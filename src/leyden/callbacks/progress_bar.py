"""The progress bar."""

import sys
import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console
from torch import Tensor

INTERVAL = 0.1  # seconds between two looks at the scores: reading them costs more than many a training step


def draws_bars() -> bool:
    """Say whether stdout is something that can redraw a line: a terminal or a notebook, no file and no pipe."""
    console = get_console()
    return console.is_jupyter or (sys.stdout.isatty() and not console.is_dumb_terminal)


class RunProgressBar(RichProgressBar):
    """Lightning's bar of an epoch, with the training loss and the time that the whole run still takes.

    It is drawn only where stdout can redraw a line; elsewhere `EpochLines` prints a line per epoch.

    Args:
        refresh_rate: How often a second it is drawn.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._looked = 0.0
        self._loss: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Switch the bar off on all ranks but the first, and in a file."""
        super().setup(trainer, pl_module, stage)
        if not draws_bars():
            self.disable()

    def enable(self) -> None:
        """Switch the bar on, as Lightning's tuners do after their search."""
        if draws_bars():
            super().enable()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._started, self._first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on, a few times a second and at an epoch's last batch."""
        now = time.monotonic()
        if self.is_enabled and (now - self._looked > INTERVAL or trainer.is_last_batch):
            self._looked = now
            self._loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            if self._loss is not None and pl_module.automatic_optimization:
                # Lightning has divided it, for the gradients' sake
                self._loss = self._loss * trainer.accumulate_grad_batches
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

    def _get_train_description(self, current_epoch: int) -> str:
        """Count epochs from 1; private in Lightning, which has no other way to name the bar."""
        epoch = f"Epoch {current_epoch + 1}"
        if self.trainer.max_epochs is not None and self.trainer.max_epochs > 0:
            epoch += f"/{self.trainer.max_epochs}"
        return f"{epoch:{len(self.validation_description)}}"  # else the bars' widths differ, and they flicker
