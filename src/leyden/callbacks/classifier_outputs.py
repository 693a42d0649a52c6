"""What callbacks read of a classifier's outputs."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from leyden.models.task import Batch
from leyden.models.tasks import Classifier


def class_names(trainer: Trainer, count: int) -> list[str]:
    """Return what the data call their classes, the numbers from 0 to count - 1 where they do not say."""
    return getattr(trainer.datamodule, "class_names", None) or [str(i) for i in range(count)]  # type: ignore[attr-defined]


def classified(pl_module: LightningModule, outputs: Any, batch: Any) -> Batch | None:
    """Return inputs (B, ...) and labels (B,) of a batch that a `Classifier` turned into logits (B, C), else None."""
    if not isinstance(pl_module, Classifier) or not isinstance(outputs, Tensor) or outputs.ndim != 2:
        return None
    pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
    return (batch[0], batch[1]) if pair else None
