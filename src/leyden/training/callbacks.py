"""Callbacks of this project; Lightning's own ones are switched on in `configs/defaults.yaml`."""

import csv
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer


class RunConfig(Callback):
    """Write the resolved configuration to `config.yaml` in the run's directory and into every checkpoint.

    A checkpoint then names its own model and data: `leyden test --ckpt_path FILE` needs nothing else.

    Args:
        config: The configuration as plain data.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml`."""
        directory = run_directory(trainer)
        if trainer.is_global_zero:
            text = yaml.safe_dump(self.config, sort_keys=False)
            (directory / "config.yaml").write_text(text, encoding="utf-8")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the configuration to the checkpoint as `config`."""
        checkpoint["config"] = self.config


class LearningCurves(Callback):
    """Draw the loss and the scores over the epochs from `metrics.csv` to `curves.png` when training ends."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the curves."""
        directory = run_directory(trainer)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()
            if (directory / "metrics.csv").is_file():
                draw_curves(directory)


def run_directory(trainer: Trainer) -> Path:
    """Return the run's directory, rank 0's on all ranks (a collective call: every rank must make it)."""
    return Path(trainer.strategy.broadcast(trainer.default_root_dir))


def read_metrics(file: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Read a `metrics.csv` into {metric: (epochs, values)}, leaving out the cells that are empty."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            for name, value in row.items():
                if value and name not in ("epoch", "step"):
                    epochs, values = curves.setdefault(name, ([], []))
                    epochs.append(float(row["epoch"]))
                    values.append(float(value))
    return curves


def draw_curves(directory: Path) -> None:
    """Draw `curves.png` from `metrics.csv` in a run's directory: one panel a metric, train and val together."""
    from matplotlib.figure import Figure  # costs 0.3 s, so only when there is something to draw

    curves = read_metrics(directory / "metrics.csv")
    metrics = list(dict.fromkeys(name.partition("/")[2] for name in curves if name.startswith("val/")))
    figure = Figure(figsize=(5 * len(metrics), 4), layout="constrained")
    figure.suptitle(f"{directory.parent.name} {directory.name}")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for split, style in (("train", "o--"), ("val", "o-")):
            if f"{split}/{metric}" in curves:
                axes.plot(*curves[f"{split}/{metric}"], style, markersize=3, label=split)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(directory / "curves.png", dpi=120)
