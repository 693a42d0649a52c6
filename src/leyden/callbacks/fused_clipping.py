"""Gradient clipping with a fused optimizer in mixed precision."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision


class FusedClipping(Callback):
    """Let gradients of a fused optimizer be clipped in mixed precision, as those of any other.

    A fused optimizer can divide gradients by the loss scale in its kernel, which is after the clipping. Lightning
    refuses to clip for that reason, also in bfloat16, which has no loss scale (its issue 21435).
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have the gradients divided before the clipping, outside of the kernel."""
        if trainer.gradient_clip_val and isinstance(trainer.precision_plugin, MixedPrecision):
            for optimizer in trainer.optimizers:
                if optimizer.defaults.get("fused"):
                    # private, as torch has no argument for it; its GradScaler and Lightning's check read it
                    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
