"""The test images that a classifier gets most wrong."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from leyden.callbacks.classifier_outputs import class_names, classified
from leyden.runs.directory import run_directory
from leyden.runs.metrics import run_title

COLUMNS = 6


class Mistakes(Callback):
    """Draw the worst-classified images of the test split to `mistakes.png`, with truth, guess and confidence.

    The worst is the one whose true class was thought the least likely. W&B is given them as a table. Any
    module but a `Classifier` of images is ignored, and nothing is drawn under `fast_dev_run`.

    Args:
        count: How many images to draw at most.
    """

    def __init__(self, count: int = 24) -> None:
        self.count = count

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last test."""
        self.worst: list[Tensor] | None = None  # images (n, C, H, W), truths, guesses, confidences, p of truth (n,)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the worst images (B, C, H, W) so far, by the logits (B, K) that `test_step` returned."""
        pair = classified(pl_module, outputs, batch)
        if pair is None or pair[0].ndim != 4 or pair[0].shape[1] not in (1, 3):
            return
        x, y = pair
        probabilities = outputs.float().softmax(dim=1)
        confidence, guess = probabilities.max(dim=1)
        wrong = guess != y
        of_truth = probabilities.gather(1, y[:, None])[:, 0]
        new = [column[wrong] for column in (x, y, guess, confidence, of_truth)]
        self.worst = self._keep_worst([new] if self.worst is None else [self.worst, new])

    def _keep_worst(self, parts: list[list[Tensor]]) -> list[Tensor]:
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        order = columns[-1].sort(stable=True).indices[: self.count]
        return [column[order] for column in columns]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the picture."""
        directory = run_directory(trainer)
        if trainer.world_size > 1:
            gathered: list[Any] = [None] * trainer.world_size
            mine = self.worst and [column.cpu() for column in self.worst]
            torch.distributed.all_gather_object(gathered, mine)
            self.worst = self._keep_worst([part for part in gathered if part]) if any(gathered) else None
        if not trainer.is_global_zero or self.worst is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        images, truths, guesses, confidences, _ = (column.cpu() for column in self.worst)
        data = trainer.datamodule  # type: ignore[attr-defined]
        names = class_names(trainer, pl_module.num_classes)  # type: ignore[arg-type]
        rows = [
            (image, names[truth], names[guess], confidence)
            for image, truth, guess, confidence in zip(
                pixels(images, data), truths.tolist(), guesses.tolist(), confidences.tolist(), strict=True
            )
        ]
        draw_mistakes(directory, rows)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and rows:
                import wandb

                data_rows = [[wandb.Image(image), *answer] for image, *answer in rows]
                logger.log_table("test/mistakes", ["image", "truth", "guess", "confidence"], data_rows)


def pixels(images: Tensor, data: Any) -> Any:
    """Turn what the network sees (n, C, H, W) into uint8 pixels (n, H, W, C); without mean and std, by the range."""
    if hasattr(data, "mean"):
        images = images * data.std.cpu() + data.mean.cpu()
    else:
        images = (images - images.min()) / (images.max() - images.min()).clamp(min=1e-12)
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def draw_mistakes(directory: Any, rows: list[tuple[Any, str, str, float]]) -> None:
    """Draw `mistakes.png` in a run's directory.

    Args:
        directory: The directory.
        rows: For each image its uint8 pixels (H, W, C), the true class, the guessed one and its probability.
    """
    from matplotlib.figure import Figure  # costs 0.3 s, so only when there is something to draw

    lines = max(1, -(-len(rows) // COLUMNS))
    figure = Figure(figsize=(1.5 * COLUMNS, 0.8 + 1.75 * lines), layout="constrained")
    axes = figure.subplots()  # one for all images: laying out one for each would take four times as long
    kind = f"{len(rows)} worst mistakes of the test split" if rows else "no mistake in the test split"
    axes.set_title(f"{run_title(directory)}, {kind}")
    for i, (image, truth, guess, confidence) in enumerate(rows):
        line, column = divmod(i, COLUMNS)
        left, bottom = 1.15 * column, -1.35 * line  # images of width 1
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(left, left + 1, bottom, bottom + 1))
        words = f"is {truth}\nguess {guess}, {confidence:.0%}"
        axes.text(left + 0.5, bottom + 1.03, words, ha="center", va="bottom", fontsize=8)
    axes.set(xlim=(0, 1.15 * COLUMNS - 0.15), ylim=(1.35 * (1 - lines), 1.35))
    axes.axis("off")
    figure.savefig(directory / "mistakes.png", dpi=120)
