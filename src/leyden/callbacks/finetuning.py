"""Fine-tuning: a backbone that was frozen at first is trained as well."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning, BaseFinetuning

from leyden.errors import UserError


def unchanged(epoch: int) -> float:
    """Return the factor by which the backbone's rate grows in an epoch."""
    return 1.0


class ResumedFinetuning(Callback):
    """Unfreeze what the optimizer of a resumed run holds: Lightning restores its groups, but not `requires_grad`."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unfreeze it, in a run that a fine-tuning callback has frozen."""
        if any(isinstance(callback, BaseFinetuning) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        parameter.requires_grad_(True)


class Finetuning(ResumedFinetuning, BackboneFinetuning):
    """Train the model's `backbone` too, from an epoch on and at a smaller rate than the rest.

    Lightning's callback, but: batch-norm is frozen like everything else until then, a resumed run goes on training
    the backbone, its rate does not double every epoch, and what it cannot do is refused.

    Args:
        unfreeze_backbone_at_epoch: The first epoch that trains the backbone, counted from 0.
        backbone_initial_ratio_lr: The backbone's learning rate as a share of what the rest has in that epoch.
    """

    def __init__(self, unfreeze_backbone_at_epoch: int = 5, backbone_initial_ratio_lr: float = 0.1) -> None:
        super().__init__(unfreeze_backbone_at_epoch, unchanged, backbone_initial_ratio_lr)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze the backbone before the optimizer is made.

        Raises:
            UserError: The model has none, or training could not go on when the backbone is unfrozen.
        """
        if stage != "fit":
            return
        if not hasattr(pl_module, "backbone"):
            name = type(pl_module).__name__
            raise UserError(f"Finetuning needs a model with a backbone, such as TransferClassifier; {name} has none")
        # DDP does not synchronise what is unfrozen later; schedules by step fail on a later group of parameters
        if trainer.world_size > 1:
            raise UserError("Finetuning works in one process only: --trainer.devices 1")
        if getattr(pl_module, "lr_interval", None) == "step":
            raise UserError("Finetuning does not work beside a schedule by step: --model.lr_interval epoch")
        super().setup(trainer, pl_module, stage)

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        """Freeze all parameters of the backbone, those of batch-norm as well."""
        pl_module.backbone.requires_grad_(False)
