"""The progress bar."""

import sys
import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console
from torch import Tensor

INTERVAL = 0.1  # seconds between two updates: reading the scores can cost more than a training step


def draws_bars() -> bool:
    """Return whether stdout can redraw a line: a terminal or a notebook, but not a file or a pipe."""
    console = get_console()
    return console.is_jupyter or (sys.stdout.isatty() and not console.is_dumb_terminal)


class RunProgressBar(RichProgressBar):
    """Lightning's progress bar of an epoch, with the training loss and the remaining time of the whole run.

    It is shown only if stdout can redraw a line; otherwise `EpochLines` prints a line per epoch.

    Args:
        refresh_rate: Redraws per second.
    """

    def __init__(self, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._updated = 0.0
        self._loss: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Disable the bar on all ranks but the first, and in a file."""
        super().setup(trainer, pl_module, stage)
        if not draws_bars():
            self.disable()

    def enable(self) -> None:
        """Enable the bar, as Lightning's tuners do after their search."""
        if draws_bars():
            super().enable()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._started, self._first_step = time.monotonic(), trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's bar."""
        super().on_train_epoch_start(trainer, pl_module)
        self._name_epoch(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar, a few times a second and at an epoch's last batch."""
        now = time.monotonic()
        if self.is_enabled and (now - self._updated > INTERVAL or trainer.is_last_batch):
            self._updated = now
            self._loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            if self._loss is not None and pl_module.automatic_optimization:
                # Lightning divided it by the number of accumulated batches
                self._loss = self._loss * trainer.accumulate_grad_batches
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            self._name_epoch(trainer)  # a run that resumes in mid-epoch gets its bar here

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return what is shown: the loss of this batch, the validation scores, the remaining time."""
        shown: dict[str, Any] = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)  # a logger's version, which is not used here
        if trainer.training:
            if isinstance(self._loss, Tensor) and self._loss.numel() == 1:  # training_step may return anything
                shown = {"loss": float(self._loss), **shown}
            done = trainer.global_step - self._first_step
            remaining = trainer.estimated_stepping_batches - trainer.global_step
            if done > 0 and remaining < float("inf"):
                seconds = int((time.monotonic() - self._started) * remaining / done)
                shown["left"] = str(timedelta(seconds=max(0, seconds)))
        return shown

    def _name_epoch(self, trainer: Trainer) -> None:
        """Count epochs from 1; Lightning counts from 0."""
        if self.progress is None or self.train_progress_bar_id is None:
            return
        epoch = f"Epoch {trainer.current_epoch + 1}"
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            epoch += f"/{trainer.max_epochs}"
        # padded, as the bars would flicker if their widths differed
        self.progress.update(self.train_progress_bar_id, description=f"{epoch:{len(self.validation_description)}}")
