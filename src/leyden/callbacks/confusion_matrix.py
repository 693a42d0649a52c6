"""What a classifier takes for what, at test."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from leyden.callbacks.classifier_outputs import class_names, classified
from leyden.models.tasks import Classifier
from leyden.runs.directory import run_directory
from leyden.runs.metrics import run_title

LEGIBLE = 40  # classes whose names are drawn; of more the picture shows the numbers


class ConfusionMatrix(Callback):
    """Count which class is taken for which over the test split, and print the accuracy of each class.

    The counts go to `confusion.csv` and, as a picture, to `confusion.png` in the run's directory,
    except under `fast_dev_run`. Any module but a `Classifier` is ignored.
    """

    counts: MulticlassConfusionMatrix | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting from zero."""
        if isinstance(pl_module, Classifier):
            self.counts = MulticlassConfusionMatrix(pl_module.num_classes, validate_args=False).to(pl_module.device)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the logits (B, C), which `test_step` returns, against the labels (B,)."""
        pair = classified(pl_module, outputs, batch)
        if self.counts is not None and pair is not None:
            self.counts.update(outputs, pair[1])

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files and print the table."""
        if self.counts is None:
            return
        counts = self.counts.compute()  # of all ranks
        directory = run_directory(trainer)
        if trainer.is_global_zero and counts.any():  # a test_step of one's own may return no logits
            names = class_names(trainer, len(counts))
            if not trainer.fast_dev_run:  # type: ignore[attr-defined]
                write_confusion(directory, counts.cpu(), names)
            for name, row in zip(names, counts.tolist(), strict=True):
                right, total = row[names.index(name)], sum(row)
                print(
                    f"  {name:<12}{right:>6} of {total:<6} right" + (f"{100 * right / total:>7.1f} %" if total else "")
                )


def write_confusion(directory: Path, counts: Tensor, names: list[str]) -> None:
    """Write `confusion.csv` and `confusion.png`.

    Args:
        directory: The run's directory.
        counts: How many samples of class i (row) were taken for class j (column), (C, C).
        names: The C classes.
    """
    from matplotlib.figure import Figure  # costs 0.3 s, so only when there is something to draw

    with (directory / "confusion.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *names])
        writer.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))

    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    size = 2 + 0.45 * len(names) if len(names) <= LEGIBLE else 10
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), cmap="cividis", vmin=0, vmax=1)  # readable to the colour-blind, and in grey
    figure.colorbar(image, label="share of the true class")
    if len(names) <= LEGIBLE:
        axes.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 3 else 90)
        axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title=f"{run_title(directory)}, test split")
    if len(names) <= 20:  # more would not be legible
        for i, row in enumerate(counts.tolist()):
            for j, count in enumerate(row):
                colour = "black" if shares[i, j] > 0.5 else "white"
                axes.text(j, i, count, ha="center", va="center", fontsize=8, color=colour)
    figure.savefig(directory / "confusion.png", dpi=120)
