"""Record the resolved configuration of a run in its directory, checkpoints and loggers."""

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger

from leyden.runs.directory import run_directory
from leyden.runs.flat_config import flat
from leyden.runs.launches import record_launch
from leyden.runs.metrics_logger import MetricsLogger
from leyden.runs.wandb import RunWandbLogger

MLFLOW_RUN_ID = "mlflow_run_id"  # file in a run's directory with the id that continues the MLflow run


class RunConfig(Callback):
    """Write the resolved configuration to the run's `config.yaml`, to every checkpoint and to every logger.

    A checkpoint then names its own model and data: `leyden test --ckpt_path FILE` needs nothing else. Loggers get the
    options by name, such as `model.optimizer.lr`. A resumed MLflow run has them already; its id is stored in the run's
    directory.

    Args:
        config: The configuration as plain data.
        command: The arguments of `leyden`, by which SLURM's or torchrun's restart finds the run.
    """

    def __init__(self, config: dict[str, Any], command: list[str]) -> None:
        self.config = config
        self.command = command
        self._logged = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml`, with the options that the DataModule has found in its data, such as class names."""
        resolved = getattr(trainer.datamodule, "resolved_options", None)  # type: ignore[attr-defined]
        if resolved is not None:
            self.config["data"].setdefault("init_args", {}).update(resolved())
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
        """Log the configuration."""
        self._log(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the configuration of `leyden validate`."""
        if not trainer.sanity_checking:  # after that the configuration may still be refused
            self._log(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the configuration of `leyden test`."""
        self._log(trainer)

    def _log(self, trainer: Trainer) -> None:
        """Log the configuration once."""
        if self._logged or not trainer.is_global_zero:
            return
        self._logged = True
        for logger in trainer.loggers:
            _log_options(logger, flat(self.config), Path(trainer.default_root_dir))


def _log_options(logger: Logger, options: dict[str, Any], directory: Path) -> None:
    """Log the options in the form that each logger needs; this project's own loggers do not need them."""
    if isinstance(logger, MetricsLogger | RunWandbLogger):
        return
    if isinstance(logger, TensorBoardLogger):
        from torch.utils.tensorboard.summary import hparams

        logger.log_hyperparams(options, metrics={})  # into hparams.yaml; without `metrics` it logs a score of -1
        numbers = (bool, int, float)
        plain = {name: value if isinstance(value, numbers) else str(value) for name, value in options.items()}
        # without a list of scores, so that TensorBoard shows all of them
        _, session, _ = hparams(plain, {})  # type: ignore[no-untyped-call]
        logger.experiment.file_writer.add_summary(session)
    elif not isinstance(logger, MLFlowLogger):
        logger.log_hyperparams(options)
    elif not (directory / MLFLOW_RUN_ID).exists():  # MLflow refuses changed values
        logger.log_hyperparams(options)
        (directory / MLFLOW_RUN_ID).write_text(str(logger.run_id), encoding="utf-8")
