"""Callbacks of this project; Lightning's own ones are switched on in `configs/defaults.yaml`."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torchmetrics.classification import MulticlassAccuracy

from leyden.models.base import Classifier
from leyden.training.launches import record_launch


class RunConfig(Callback):
    """Write the resolved configuration to `config.yaml` in the run's directory and into every checkpoint.

    A checkpoint then names its own model and data: `leyden test --ckpt_path FILE` needs nothing else.

    Args:
        config: The configuration as plain data.
        command: The words after `leyden`, by which a run that SLURM or torchrun starts again is found.
    """

    def __init__(self, config: dict[str, Any], command: list[str]) -> None:
        self.config = config
        self.command = command

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml`."""
        directory = run_directory(trainer)
        if trainer.is_global_zero:
            text = yaml.safe_dump(self.config, sort_keys=False)
            (directory / "config.yaml").write_text(text, encoding="utf-8")
            record_launch(directory, self.command)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration to the checkpoint as `config`."""
        checkpoint["config"] = self.config


def run_directory(trainer: Trainer) -> Path:
    """Return the run's directory, rank 0's on all ranks (a collective call: every rank must make it)."""
    return Path(trainer.strategy.broadcast(trainer.default_root_dir))


def class_names(trainer: Trainer, count: int) -> list[str]:
    """Return what the data call their classes, the numbers from 0 to count - 1 where they do not say."""
    return getattr(trainer.datamodule, "class_names", None) or [str(i) for i in range(count)]  # type: ignore[attr-defined]


class MirrorAccuracy(Callback):
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
        if self.accuracy is not None:
            x, y = batch
            self.accuracy.update(outputs + pl_module(x.flip(-1)), y)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the accuracy."""
        if self.accuracy is not None:
            pl_module.log("test/acc_mirror", self.accuracy.compute(), sync_dist=True)
