"""Test-time augmentation: classify each test image together with its mirror image."""

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from leyden.callbacks.classifier_outputs import LogitsCallback
from leyden.models.tasks import Classifier


class FlipTTA(LogitsCallback):
    """Log `test/acc_mirror`: the accuracy of the sum of the logits of a test image and of its mirror image.

    This is test-time augmentation, which needs a second forward pass, so it never replaces `test/acc`.
    """

    accuracy: MulticlassAccuracy | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the accuracy."""
        if isinstance(pl_module, Classifier):
            self.accuracy = MulticlassAccuracy(pl_module.num_classes, average="micro").to(pl_module.device)

    def on_test_logits(self, model: Classifier, x: Tensor, logits: Tensor, y: Tensor) -> None:
        """Classify images x (B, C, H, W) by their logits (B, K) plus those of their mirror images."""
        if self.accuracy is not None:
            self.accuracy.update(logits + model(x.flip(-1)), y)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the accuracy."""
        if self.accuracy is not None:
            pl_module.log("test/acc_mirror", self.accuracy.compute(), sync_dist=True)
