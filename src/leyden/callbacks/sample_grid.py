"""A picture of images sampled from a generative model."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchvision.utils import make_grid

from leyden.callbacks.classifier_outputs import class_names
from leyden.runs.directory import run_directory
from leyden.runs.metrics import run_title


class SampleGrid(Callback):
    """Sample new images and draw them to `samples.png` in the run's directory when fit or predict ends.

    One row for each class, with `num_samples` images. The model needs the method `sample`, which maps classes (B,) to
    images (B, C, H, W) in [0, 1], the attribute `num_classes` and the hyper-parameter `num_samples`; other models are
    ignored. Nothing is drawn with `fast_dev_run`.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample with the weights of the best checkpoint, as the test uses them; the model keeps these weights."""
        self._draw(trainer, pl_module, getattr(trainer.checkpoint_callback, "best_model_path", ""))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sample with the weights of the checkpoint that `predict` was given."""
        self._draw(trainer, pl_module)

    def _draw(self, trainer: Trainer, pl_module: LightningModule, checkpoint: str = "") -> None:
        can_sample = all(hasattr(pl_module, name) for name in ("sample", "num_classes"))
        if not can_sample or "num_samples" not in pl_module.hparams or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        model: Any = pl_module
        if checkpoint:  # loaded as Lightning loads it for the test, which depends on the strategy
            trainer.strategy.load_model_state_dict(trainer.strategy.load_checkpoint(checkpoint, weights_only=True))
        classes, columns = model.num_classes, model.hparams["num_samples"]
        images = model.sample(torch.arange(classes).repeat_interleave(columns))  # (classes * columns, C, H, W)
        directory = run_directory(trainer)
        if trainer.is_global_zero:  # all ranks have sampled, as each may hold only a shard of the weights
            draw_samples(directory, images.cpu(), class_names(trainer, classes))


def draw_samples(directory: Path, images: Tensor, names: list[str]) -> None:
    """Draw `samples.png` in a run's directory, a row for each class.

    Args:
        directory: The run's directory.
        images: The same number for each class, class after class, in [0, 1], (N, C, H, W).
        names: Names of the classes.
    """
    from matplotlib.figure import Figure  # takes 0.3 s, so only when there is something to draw

    columns, height = len(images) // len(names), images.shape[2] + 1  # with the line between two rows
    grid = make_grid(images, nrow=columns, padding=1, pad_value=0.5)  # (3, rows, columns)
    figure = Figure(figsize=(max(5.0, 1 + 0.5 * columns), 1 + 0.5 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.set_title(f"{run_title(directory)}\nimages drawn for each class")
    axes.imshow(grid.permute(1, 2, 0), interpolation="nearest")
    axes.set_yticks([height * (row + 0.5) for row in range(len(names))], names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.savefig(directory / "samples.png", dpi=120)
