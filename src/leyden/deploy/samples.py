"""Pictures of what a generative model draws."""

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import functional as F  # noqa: N812
from torchvision.utils import save_image

from leyden.models.image_gpt import ImageGPT
from leyden.training.callbacks import run_directory


class SampleWriter(Callback):
    """Draw new images to `samples.png` in the run's directory when fit or predict ends.

    A row for each class, of the model's `num_samples`. What is no `ImageGPT` is left alone.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what was learned."""
        self._write(trainer, pl_module)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what was asked for."""
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, ImageGPT):
            return
        columns = pl_module.hparams["num_samples"]
        images = pl_module.sample(torch.arange(pl_module.num_classes).repeat_interleave(columns))  # (B, C, H, W)
        file = run_directory(trainer) / "samples.png"
        if trainer.is_global_zero:  # all ranks have drawn, as each may hold a share of the weights only
            save_image(F.interpolate(images, scale_factor=4.0), file, nrow=columns, pad_value=0.5)
