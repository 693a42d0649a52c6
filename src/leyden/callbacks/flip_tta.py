"""Test-time augmentation: a test image and its mirror image are judged together."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torchmetrics.classification import MulticlassAccuracy

from leyden.callbacks.classifier_outputs import classified
from leyden.models.tasks import Classifier


class FlipTTA(Callback):
    """Log `test/acc_mirror`: the accuracy when a test image and its mirror image are judged together.

    The two logits are added. This is test-time augmentation, a second look, so it is never `test/acc` itself.
    """

    accuracy: MulticlassAccuracy | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start counting from zero."""
        if isinstance(pl_module, Classifier):
            self.accuracy = MulticlassAccuracy(pl_module.num_classes, average="micro").to(pl_module.device)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Judge images (B, C, H, W) by the logits (B, C) that `test_step` returned and those of their mirror images."""
        pair = classified(pl_module, outputs, batch)
        if self.accuracy is not None and pair is not None:
            x, y = pair
            self.accuracy.update(outputs + pl_module(x.flip(-1)), y)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the accuracy."""
        if self.accuracy is not None:
            pl_module.log("test/acc_mirror", self.accuracy.compute(), sync_dist=True)
