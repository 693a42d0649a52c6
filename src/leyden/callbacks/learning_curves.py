"""Draw learning curves when training ends."""

from lightning.pytorch import Callback, LightningModule, Trainer

from leyden.runs.curves import draw_curves
from leyden.runs.directory import run_directory


class LearningCurves(Callback):
    """Draw the loss and the scores over the epochs from `metrics.csv` to `curves.png` in the run's directory.

    Nothing is drawn with `fast_dev_run`.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves."""
        directory = run_directory(trainer)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            for logger in trainer.loggers:
                logger.save()
            if (directory / "metrics.csv").is_file():
                draw_curves(directory / "curves.png", [directory])
