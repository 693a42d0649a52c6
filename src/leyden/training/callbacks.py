"""Callbacks of this project; Lightning's own ones are switched on in `configs/defaults.yaml`."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from leyden.models.base import Batch, Classifier
from leyden.training.launches import record_launch
from leyden.training.logs import MetricsLogger
from leyden.training.resume import flat
from leyden.training.tracking import MLFLOW_RUN_ID, RunWandbLogger


class RunConfig(Callback):
    """Write the resolved configuration to `config.yaml` in the run's directory, into every checkpoint, to every logger.

    A checkpoint then names its own model and data: `leyden test --ckpt_path FILE` needs nothing else. Loggers get the
    options by name, such as `model.optimizer.lr`; a resumed MLflow run has them already, and goes on by the id that is
    kept in the run's directory.

    Args:
        config: The configuration as plain data.
        command: The words after `leyden`, by which a run that SLURM or torchrun starts again is found.
    """

    def __init__(self, config: dict[str, Any], command: list[str]) -> None:
        self.config = config
        self.command = command
        self._logged = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml`."""
        self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write `config.yaml` (a collective call: every rank must make it)."""
        directory = run_directory(trainer)
        if trainer.is_global_zero:
            text = yaml.safe_dump(self.config, sort_keys=False)
            (directory / "config.yaml").write_text(text, encoding="utf-8")
            record_launch(directory, self.command)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration to the checkpoint as `config`."""
        checkpoint["config"] = self.config

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give it to the loggers."""
        self._log(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give it to the loggers of `leyden validate`."""
        if not trainer.sanity_checking:  # after which the configuration may still be refused
            self._log(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give it to the loggers of `leyden test`."""
        self._log(trainer)

    def _log(self, trainer: Trainer) -> None:
        """Log the configuration once."""
        if self._logged or not trainer.is_global_zero:
            return
        self._logged = True
        for logger in trainer.loggers:
            _log_options(logger, flat(self.config), Path(trainer.default_root_dir))


def _log_options(logger: Logger, options: dict[str, Any], directory: Path) -> None:
    """Log the options of a run in the way of each logger; our own ones have them from elsewhere."""
    if isinstance(logger, MetricsLogger | RunWandbLogger):
        return
    if isinstance(logger, TensorBoardLogger):
        from torch.utils.tensorboard.summary import hparams

        logger.log_hyperparams(options, metrics={})  # into hparams.yaml; unsaid, it logs a score of -1
        numbers = (bool, int, float)
        plain = {name: value if isinstance(value, numbers) else str(value) for name, value in options.items()}
        # without the list of scores, for which TensorBoard then takes all that there are
        _, session, _ = hparams(plain, {})  # type: ignore[no-untyped-call]
        logger.experiment.file_writer.add_summary(session)
    elif not isinstance(logger, MLFlowLogger):
        logger.log_hyperparams(options)
    elif not (directory / MLFLOW_RUN_ID).exists():  # MLflow refuses other values than those it holds
        logger.log_hyperparams(options)
        (directory / MLFLOW_RUN_ID).write_text(str(logger.run_id), encoding="utf-8")


def run_directory(trainer: Trainer) -> Path:
    """Return the run's directory, rank 0's on all ranks (a collective call: every rank must make it)."""
    return Path(trainer.strategy.broadcast(trainer.default_root_dir))


def class_names(trainer: Trainer, count: int) -> list[str]:
    """Return what the data call their classes, the numbers from 0 to count - 1 where they do not say."""
    return getattr(trainer.datamodule, "class_names", None) or [str(i) for i in range(count)]  # type: ignore[attr-defined]


def classified(pl_module: LightningModule, outputs: Any, batch: Any) -> Batch | None:
    """Return inputs (B, ...) and labels (B,) of a batch that a `Classifier` turned into logits (B, C), else None."""
    if not isinstance(pl_module, Classifier) or not isinstance(outputs, Tensor) or outputs.ndim != 2:
        return None
    pair = isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
    return (batch[0], batch[1]) if pair else None


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
        pair = classified(pl_module, outputs, batch)
        if self.accuracy is not None and pair is not None:
            x, y = pair
            self.accuracy.update(outputs + pl_module(x.flip(-1)), y)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the accuracy."""
        if self.accuracy is not None:
            pl_module.log("test/acc_mirror", self.accuracy.compute(), sync_dist=True)
