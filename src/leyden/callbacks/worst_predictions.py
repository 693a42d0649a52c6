"""The test images whose predictions are most wrong."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from leyden.callbacks.classifier_outputs import LogitsCallback, class_names
from leyden.callbacks.image_grid import draw_images, pixels
from leyden.models.tasks import Classifier
from leyden.runs.directory import run_directory
from leyden.runs.metrics import run_title
from leyden.runs.ranks import gather_object

COLUMNS = 6


class WorstPredictions(LogitsCallback):
    """Draw the worst-classified images of the test split to `mistakes.png`, with truth, guess and confidence.

    They are sorted by the probability of the true class, lowest first. Weights & Biases gets them as a table. Only a
    `Classifier` of images is considered, and nothing is drawn with `fast_dev_run`.

    Args:
        count: Maximum number of images.
    """

    def __init__(self, count: int = 24) -> None:
        self.count = count

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the images."""
        # images (n, C, H, W), labels, guesses, confidences and probabilities of the labels, all (n,)
        self.worst: list[Tensor] | None = None

    def on_test_logits(self, model: Classifier, x: Tensor, logits: Tensor, y: Tensor) -> None:
        """Keep the worst images x (B, C, H, W) so far, by their logits (B, K) and labels y (B,)."""
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            return
        probabilities = logits.float().softmax(dim=1)
        confidence, guess = probabilities.max(dim=1)
        wrong = guess != y
        of_label = probabilities.gather(1, y[:, None])[:, 0]
        new = [column[wrong] for column in (x, y, guess, confidence, of_label)]
        self.worst = self._keep_worst([new] if self.worst is None else [self.worst, new])

    def _keep_worst(self, parts: list[list[Tensor]]) -> list[Tensor]:
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        order = columns[-1].sort(stable=True).indices[: self.count]
        return [column[order] for column in columns]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the picture."""
        directory = run_directory(trainer)
        parts = gather_object(trainer, self.worst and [column.cpu() for column in self.worst])
        parts = [part for part in parts if part]
        if not trainer.is_global_zero or not parts or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        images, truths, guesses, confidences, _ = self._keep_worst(parts)
        data = trainer.datamodule  # type: ignore[attr-defined]
        names = class_names(trainer, pl_module.num_classes)  # type: ignore[arg-type]
        rows = [
            (image, names[truth], names[guess], confidence)
            for image, truth, guess, confidence in zip(
                pixels(images, data), truths.tolist(), guesses.tolist(), confidences.tolist(), strict=True
            )
        ]
        draw_worst(directory, rows)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and rows:
                import wandb

                data_rows = [[wandb.Image(image), *answer] for image, *answer in rows]
                logger.log_table("test/mistakes", ["image", "truth", "guess", "confidence"], data_rows)


def draw_worst(directory: Path, rows: list[tuple[Any, str, str, float]]) -> None:
    """Draw `mistakes.png` in a run's directory.

    Args:
        directory: The run's directory.
        rows: For each image its uint8 pixels (H, W, C), true class, predicted class and the probability of that.
    """
    kind = f"{len(rows)} worst mistakes of the test split" if rows else "no mistake in the test split"
    texts = [f"is {truth}\nguess {guess}, {confidence:.0%}" for _, truth, guess, confidence in rows]
    draw_images(directory / "mistakes.png", f"{run_title(directory)}, {kind}", [row[0] for row in rows], texts, COLUMNS)
