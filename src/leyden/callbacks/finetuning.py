"""Fine-tuning: train a pretrained backbone after some epochs with frozen weights."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning, BaseFinetuning
from torch import nn

from leyden.errors import UserError


def unchanged(epoch: int) -> float:
    """Return the factor of the backbone's learning rate for an epoch: 1."""
    return 1.0


class ResumedFinetuning(Callback):
    """Unfreeze the optimizer's parameters in a resumed run: Lightning restores its groups, but not `requires_grad`."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unfreeze them if a fine-tuning callback had frozen them."""
        if any(isinstance(callback, BaseFinetuning) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            for optimizer in trainer.optimizers:
                for group in optimizer.param_groups:
                    for parameter in group["params"]:
                        parameter.requires_grad_(True)


class Finetuning(ResumedFinetuning, BackboneFinetuning):
    """Train the model's `backbone` too from a given epoch, with a smaller learning rate than the rest.

    The backbone of a classifier with a sequential network is all but its last layer; a model of your own can have an
    attribute `backbone`. It is in evaluation mode in the whole run, in which batch-norm keeps its statistics and
    dropout is off.

    It differs from Lightning's `BackboneFinetuning` as follows: batch-norm is frozen until then like all other layers,
    a resumed run continues to train the backbone, its rate does not double every epoch, and what does not work is
    refused.

    Args:
        unfreeze_backbone_at_epoch: First epoch that trains the backbone, counted from 0.
        backbone_initial_ratio_lr: Ratio of the backbone's learning rate to that of the rest in that epoch.
    """

    def __init__(self, unfreeze_backbone_at_epoch: int = 5, backbone_initial_ratio_lr: float = 0.1) -> None:
        super().__init__(unfreeze_backbone_at_epoch, unchanged, backbone_initial_ratio_lr)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Freeze the backbone before the optimizer is created.

        Raises:
            UserError: The model has no backbone, or training would fail when it is unfrozen.
        """
        if stage != "fit":
            return
        backbone = getattr(pl_module, "backbone", None)
        count = len(list(backbone.parameters())) if isinstance(backbone, nn.Module) else 0
        if not 0 < count < len(list(pl_module.parameters())):
            name = type(pl_module).__name__
            raise UserError(f"Finetuning needs a model with a backbone and a head, such as ResNet; {name} has not both")
        # DDP does not synchronise parameters unfrozen later; schedules by step fail on parameter groups added later
        if trainer.world_size > 1:
            raise UserError("Finetuning works in one process only: --trainer.devices 1")
        if getattr(pl_module, "lr_interval", None) == "step":
            raise UserError("Finetuning does not work beside a schedule by step: --model.lr_interval epoch")
        super().setup(trainer, pl_module, stage)

    def freeze_before_training(self, pl_module: LightningModule) -> None:
        """Freeze all parameters of the backbone, including those of batch-norm, which keeps its statistics too."""
        pl_module.backbone.requires_grad_(False).eval()  # type: ignore[union-attr]
