"""Record the results of Lightning's `LearningRateFinder` and `BatchSizeFinder` in the run's configuration."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder

from leyden.models.task import Task
from leyden.runs.run_config import RunConfig

FINDERS = (BatchSizeFinder, LearningRateFinder)


class KeepFound(Callback):
    """Write the learning rate and the batch size that were found to `config.yaml`, and remove the finders from it.

    The run can then be repeated, resumed and tested without another search.

    Args:
        run_config: The callback that records the configuration.
    """

    def __init__(self, run_config: RunConfig) -> None:
        self.run_config = run_config

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record what the finders found; they are earlier in the Trainer's list of callbacks."""
        config = self.run_config.config
        model, data = ((config[part] or {}).setdefault("init_args", {}) for part in ("model", "data"))
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LearningRateFinder) and callback.optimal_lr:
                lr = callback.optimal_lr.suggestion()
                if isinstance(pl_module, Task):
                    model["optimizer"].setdefault("init_args", {})["lr"] = lr
                    trainer.strategy.setup_optimizers(trainer)  # the schedule starts from that rate too
                else:
                    model["lr" if hasattr(pl_module, "lr") or "lr" in pl_module.hparams else "learning_rate"] = lr
            if isinstance(callback, BatchSizeFinder) and callback.optimal_batch_size:
                owner = data if hasattr(trainer.datamodule, "batch_size") else model  # type: ignore[attr-defined]
                owner["batch_size"] = callback.optimal_batch_size
        trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, FINDERS)]  # type: ignore[attr-defined]
        names = tuple(finder.__name__ for finder in FINDERS)
        callbacks = config["trainer"]["callbacks"]
        config["trainer"]["callbacks"] = [c for c in callbacks if not c["class_path"].endswith(names)]
        self.run_config.write(trainer)
