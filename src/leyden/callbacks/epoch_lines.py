"""One line per epoch, for a stdout that cannot show a progress bar: a file or a pipe."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from leyden.callbacks.progress_bar import draws_bars


class EpochLines(Callback):
    """Print a line after each epoch: number, losses, scores, learning rate and seconds, including validation.

    Nothing is printed on a terminal, where the progress bar shows the same, or with
    `--trainer.enable_progress_bar false`.
    """

    def __init__(self) -> None:
        self._started = 0.0
        self._ended: tuple[int, float] | None = None  # number and seconds of an epoch not printed yet
        self._printed_metrics: dict[str, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a run that resumes in mid-epoch has no `on_train_epoch_start`."""
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the previous epoch, and start the clock."""
        self._print_line(trainer)
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock; the LightningModule logs the epoch's training metrics only after this hook."""
        self._ended = (trainer.current_epoch + 1, time.perf_counter() - self._started)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the last epoch."""
        self._print_line(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Print the line of the last complete epoch."""
        self._print_line(trainer)

    def _print_line(self, trainer: Trainer) -> None:
        if self._ended is None:
            return
        epoch, seconds = self._ended
        self._ended = None
        metrics = trainer.callback_metrics
        # a score that this epoch did not log is still the same object: Lightning keeps the latest value of each
        new = {name: value for name, value in metrics.items() if value is not self._printed_metrics.get(name)}
        self._printed_metrics = dict(metrics)
        if draws_bars() or not trainer.is_global_zero:
            return
        number = f"{epoch}"
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            number = f"{epoch:>{len(str(trainer.max_epochs))}}/{trainer.max_epochs}"
        names = sorted((name for name in new if not name.endswith("_step")), key=_order)
        scores = (f"{name} {float(new[name]):.4g}" for name in names)
        print("  ".join([f"epoch {number}", *scores, f"{seconds:.1f} s"]), flush=True)


def _order(name: str) -> tuple[bool, str, bool, str]:
    """Return a sort key: by split, the loss first in each, learning rates last."""
    return name.startswith("lr"), name.partition("/")[0], "loss" not in name, name
