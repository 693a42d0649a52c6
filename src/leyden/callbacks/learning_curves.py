"""Learning curves, from `metrics.csv` to a picture."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from leyden.runs.directory import run_directory
from leyden.runs.metrics import PALETTE, read_metrics, run_title


class LearningCurves(Callback):
    """Draw the loss and the scores over the epochs from `metrics.csv` to `curves.png` when training ends.

    Nothing is drawn under `fast_dev_run`.
    """

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves."""
        directory = run_directory(trainer)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            for logger in trainer.loggers:
                logger.save()
            if (directory / "metrics.csv").is_file():
                draw_curves(directory)


def draw_curves(directory: Path) -> None:
    """Draw `curves.png` from `metrics.csv` in a run's directory: one panel a metric, train and val together."""
    from matplotlib.figure import Figure  # costs 0.3 s, so only when there is something to draw

    curves = read_metrics(directory / "metrics.csv")
    metrics = sorted({name.partition("/")[2] for name in curves if name.startswith("val/")}, key="loss".__ne__)
    if not metrics:  # nothing was validated
        return
    figure = Figure(figsize=(5 * len(metrics), 4), layout="constrained")
    figure.suptitle(run_title(directory))
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for split, style, colour in (("train", "o--", PALETTE[1]), ("val", "o-", PALETTE[0])):
            if f"{split}/{metric}" in curves:
                axes.plot(*curves[f"{split}/{metric}"], style, markersize=3, label=split, color=colour)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(directory / "curves.png", dpi=120)
