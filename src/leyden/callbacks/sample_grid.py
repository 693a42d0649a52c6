"""Pictures of what a generative model draws."""

from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchvision.utils import make_grid

from leyden.callbacks.classifier_outputs import class_names
from leyden.models.image_gpt import ImageGPT
from leyden.runs.directory import run_directory
from leyden.runs.metrics import run_title


class SampleWriter(Callback):
    """Draw new images to `samples.png` in the run's directory when fit or predict ends.

    One row per class, of the model's `num_samples` images. Ignored unless the model is an `ImageGPT`, and under
    `fast_dev_run`.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw with the weights of the best checkpoint, as the test uses them; the model keeps these weights."""
        self._write(trainer, pl_module, getattr(trainer.checkpoint_callback, "best_model_path", ""))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw with the weights of the checkpoint that predict was given."""
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule, checkpoint: str = "") -> None:
        if not isinstance(pl_module, ImageGPT) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if checkpoint:  # as Lightning loads it for the test: each strategy in its own way
            trainer.strategy.load_model_state_dict(trainer.strategy.load_checkpoint(checkpoint, weights_only=True))
        classes, columns = pl_module.num_classes, pl_module.hparams["num_samples"]
        images = pl_module.sample(torch.arange(classes).repeat_interleave(columns))  # (classes * columns, C, H, W)
        directory = run_directory(trainer)
        if trainer.is_global_zero:  # all ranks have drawn, as each may hold a share of the weights only
            draw_samples(directory, images.cpu(), class_names(trainer, classes))


def draw_samples(directory: Path, images: Tensor, names: list[str]) -> None:
    """Draw `samples.png` in a run's directory, a row for each class.

    Args:
        directory: The directory.
        images: As many of each class, in [0, 1], (N, C, H, W).
        names: What the classes are called.
    """
    from matplotlib.figure import Figure  # costs 0.3 s, so only when there is something to draw

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
