"""Gradient clipping with a fused optimizer in mixed precision."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision

from leyden.lightning_internals import unscale_before_clipping


class FusedClipping(Callback):
    """Clip gradients in mixed precision also with a fused optimizer.

    A fused optimizer can divide the gradients by the loss scale in its kernel, which is after clipping. Lightning
    therefore refuses to clip, even in bfloat16, which has no loss scale (its issue 21435).
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Divide the gradients before clipping, outside of the kernel."""
        if trainer.gradient_clip_val and isinstance(trainer.precision_plugin, MixedPrecision):
            for optimizer in trainer.optimizers:
                if optimizer.defaults.get("fused"):
                    unscale_before_clipping(optimizer)
