"""Confusion matrix and per-class accuracy on the test split."""

import csv
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from leyden.callbacks.classifier_outputs import LogitsCallback, class_names
from leyden.models.tasks import Classifier
from leyden.runs.directory import run_directory
from leyden.runs.metrics import run_title

MAX_NAMED_CLASSES = 40  # with more, the picture shows class numbers instead of names
MAX_WRITTEN_CLASSES = 20  # with more, the counts in the cells would not be legible


class ConfusionMatrix(LogitsCallback):
    """Count predicted against true classes over the test split, and print the accuracy of each class.

    The counts are written to `confusion.csv` and drawn to `confusion.png` in the run's directory, except with
    `fast_dev_run`. Only a `Classifier` has a confusion matrix.
    """

    counts: MulticlassConfusionMatrix | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the counts."""
        if isinstance(pl_module, Classifier):
            self.counts = MulticlassConfusionMatrix(pl_module.num_classes, validate_args=False).to(pl_module.device)

    def on_test_logits(self, model: Classifier, x: Tensor, logits: Tensor, y: Tensor) -> None:
        """Count the logits (B, C) against the labels y (B,)."""
        if self.counts is not None:
            self.counts.update(logits, y)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files and print the table."""
        if self.counts is None:
            return
        counts = self.counts.compute()  # over all ranks
        directory = run_directory(trainer)
        if trainer.is_global_zero and counts.any():  # a test_step that a user overrides may return no logits
            names = class_names(trainer, len(counts))
            if not trainer.fast_dev_run:  # type: ignore[attr-defined]
                write_confusion(directory, counts.cpu(), names)
            for name, row in zip(names, counts.tolist(), strict=True):
                correct, total = row[names.index(name)], sum(row)
                accuracy = f"{100 * correct / total:>7.1f} %" if total else ""
                print(f"  {name:<12}{correct:>6} of {total:<6} right{accuracy}")


def write_confusion(directory: Path, counts: Tensor, names: list[str]) -> None:
    """Write `confusion.csv` and `confusion.png`.

    Args:
        directory: The run's directory.
        counts: Number of samples of class i (row) that were predicted as class j (column), (C, C).
        names: Names of the C classes.
    """
    from matplotlib.figure import Figure  # takes 0.3 s, so only when there is something to draw

    with (directory / "confusion.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *names])
        writer.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))

    fractions = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    size = 2 + 0.45 * len(names) if len(names) <= MAX_NAMED_CLASSES else 10
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(fractions.numpy(), cmap="cividis", vmin=0, vmax=1)  # legible if colour-blind or in grey
    figure.colorbar(image, label="fraction of the true class")
    if len(names) <= MAX_NAMED_CLASSES:
        axes.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 3 else 90)
        axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title=f"{run_title(directory)}, test split")
    if len(names) <= MAX_WRITTEN_CLASSES:
        for i, row in enumerate(counts.tolist()):
            for j, count in enumerate(row):
                colour = "black" if fractions[i, j] > 0.5 else "white"
                axes.text(j, i, count, ha="center", va="center", fontsize=8, color=colour)
    figure.savefig(directory / "confusion.png", dpi=120)
