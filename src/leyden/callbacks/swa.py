"""Stochastic weight averaging, with Lightning's `WeightAveraging`."""

import math

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from leyden.errors import UserError


class SWA(WeightAveraging):
    """Average the weights of the last part of the training, every step with the same weight (Izmailov et al., 2018).

    Until then the average is the current weights, so validation always scores the weights that would be kept.
    Statistics of batch-norm are averaged too.

    Args:
        start: Fraction of all steps after which averaging starts, at least 0 and below 1.
        device: Where the average is kept; None for the device that trains.

    Raises:
        UserError: `start` is not such a fraction.
    """

    def __init__(self, start: float = 0.75, device: torch.device | str | None = None) -> None:
        if not 0 <= start < 1:
            raise UserError(f"SWA has start {start}: give a fraction of the steps, at least 0 and below 1")
        super().__init__(device=device, avg_fn=self._average)
        self.start = start
        self.first_step = 0  # that is averaged

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the first step to average.

        Raises:
            UserError: The number of steps is not known.
        """
        steps = trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise UserError("SWA needs the number of steps: give --trainer.max_epochs or --trainer.max_steps")
        self.first_step = int(self.start * steps)

    def _average(self, average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        """Return the mean of the weights after the averaged steps and this one; `count` steps were before this one."""
        averaged = int(count) - self.first_step
        return current if averaged <= 0 else average + (current - average) / (averaged + 1)
