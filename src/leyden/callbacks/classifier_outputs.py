"""Base of callbacks that look at a classifier's logits."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from leyden.models.tasks import Classifier


class LogitsCallback(Callback):
    """Receive the logits of each test batch of a `Classifier`; any other module or output is ignored."""

    def on_test_logits(self, model: Classifier, x: Tensor, logits: Tensor, y: Tensor) -> None:
        """Use the inputs x (B, ...), logits (B, C) and labels y (B,) of a test batch."""
        raise NotImplementedError

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Call `on_test_logits` with what `test_step` returned."""
        if not isinstance(pl_module, Classifier) or not isinstance(outputs, Tensor) or outputs.ndim != 2:
            return
        if isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
            self.on_test_logits(pl_module, batch[0], outputs, batch[1])


def class_names(trainer: Trainer, count: int) -> list[str]:
    """Return the DataModule's `class_names`, or the numbers from 0 to count - 1 if it has none."""
    return getattr(trainer.datamodule, "class_names", None) or [str(i) for i in range(count)]  # type: ignore[attr-defined]
