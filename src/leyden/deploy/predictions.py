"""Predictions of a whole dataset, to a CSV file."""

import csv
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from leyden.training.callbacks import run_directory


class PredictionWriter(BasePredictionWriter):
    """Write what `predict_step` returns to `predictions.csv` in the run's directory.

    One row a sample, in the dataset's order: its index, then a column for each entry of the returned dict (for a
    classifier: class, probability). Under DDP rank 0 gathers the ranks' rows. No columns, no file.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the file."""
        indices = [index for loader in batch_indices for batch in loader for index in batch]
        columns = {name: torch.cat([batch[name] for batch in predictions]).tolist() for name in predictions[0]}
        if not columns:
            return
        header, rows = ["index", *columns], list(zip(indices, *columns.values(), strict=True))
        directory = run_directory(trainer)
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(gathered, rows)
            rows = [row for part in gathered for row in part]
        if trainer.is_global_zero:
            with (directory / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(header)
                writer.writerows(sorted(rows))
