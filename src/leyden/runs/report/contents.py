"""Read what the page shows of a run from the files in its directory."""

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from leyden.errors import UserError
from leyden.runs.compare import scores
from leyden.runs.metrics import read_metrics, read_rows, run_title
from leyden.runs.report.confusion import Confusion, read_confusion
from leyden.runs.report.defaults import default_options
from leyden.runs.report.pictures import Picture, PictureReader
from leyden.security import check_command, check_file

MAX_ROWS = 1000  # of all tables of values together
PACKAGES = ("leyden", "torch", "torchvision", "lightning", "torchmetrics", "numpy")  # versions to show
HARDWARE = ("accelerator", "devices", "num_nodes", "strategy", "precision")  # options of the Trainer to show

Series = tuple[list[float], list[float]]  # x and y of a curve


@dataclass
class Curves:
    """The curves of a run: {metric: (x, y)}, by epoch those of the splits, by step all others."""

    by_epoch: dict[str, Series]
    by_step: dict[str, Series]


@dataclass
class Option:
    """An option of the configuration; `default` is None if it is not known, or if there is none."""

    name: str
    value: str
    default: str | None
    is_chosen: bool


@dataclass
class Contents:
    """What the page shows of a run."""

    title: str
    notes: str
    scores: dict[str, str]
    curves: Curves
    values: dict[float, dict[str, float]]  # {epoch: {metric: value}}
    left_out: int  # epochs that `values` lacks
    confusion: Confusion | None
    pictures: list[Picture]
    options: list[Option]
    environment: dict[str, str]
    records_packages: bool
    commands: dict[str, str]


def read_contents(path: Path, config: dict[str, str], pictures: PictureReader, rows: int = MAX_ROWS) -> Contents:
    """Read a run's directory.

    Args:
        path: The directory, as the commands on the page are to name it.
        config: The result of `stored_config.read_config`.
        pictures: Reads the pictures.
        rows: Maximum number of epochs in the table of values.

    Raises:
        UserError: A file cannot be read, or contains what looks like a secret.
    """
    run = path.absolute()
    check_file(str(path / "config.yaml"))
    try:
        nested = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        wandb = nested.get("wandb")
        confusion = read_confusion(run / "confusion.csv")
        found = [] if confusion else pictures.read(run / "confusion.png", "Confusion matrix", "Confusion matrix")
        found += pictures.read(
            run / "mistakes.png", "Worst mistakes", "The test images with the worst predictions: label and prediction"
        )
        found += pictures.read(run / "samples.png", "Samples", "Images that the model has drawn, a row for each class")
        curves = read_curves(run / "metrics.csv")
        values = values_by_epoch(curves)
        environment, records_packages = read_environment(run, config)
        return Contents(
            title=run_title(run),
            notes=str((wandb.get("notes") if isinstance(wandb, dict) else None) or ""),
            scores=scores(run, config),
            curves=curves,
            values=dict(list(values.items())[:rows]),
            left_out=max(0, len(values) - rows),
            confusion=confusion,
            pictures=found,
            options=read_options(config, default_options(nested)),
            environment=environment,
            records_packages=records_packages,
            commands=commands(path),
        )
    except OSError as error:
        raise UserError(f"cannot read {error.filename} ({error.strerror})") from error


def read_curves(file: Path) -> Curves:
    """Read the curves of a `metrics.csv`; the scores of the test are no curves."""
    by_epoch = {
        name: series
        for name, series in read_metrics(file).items()
        if name.startswith(("train/", "val/")) and not name.endswith("_step")
    }
    by_step: dict[str, Series] = {}
    for step, row in sorted(read_rows(file).items()):
        for name, value in row.items():
            if name not in by_epoch and name != "epoch" and not name.startswith("test/"):
                steps, values = by_step.setdefault(name, ([], []))
                steps.append(step)
                values.append(value)
    return Curves(by_epoch, by_step)


def values_by_epoch(curves: Curves) -> dict[float, dict[str, float]]:
    """Return {epoch: {metric: value}}; of several values in an epoch the last."""
    values: dict[float, dict[str, float]] = {}
    for name in sorted(curves.by_epoch):
        for epoch, value in zip(*curves.by_epoch[name], strict=True):
            values.setdefault(epoch, {})[name] = value
    return dict(sorted(values.items()))


def read_options(config: Mapping[str, str], defaults: Mapping[str, str | None]) -> list[Option]:
    """Return the options; chosen are those whose value is not their default."""
    return [
        Option(name, value, defaults.get(name), name in defaults and not _equal(value, defaults[name]))
        for name, value in config.items()
    ]


def _equal(value: str, default: str | None) -> bool:
    """Return whether a value is its default: `0.0` is `0`, and what the command line fills in is empty or null."""
    if default is None or value == "":
        return value in ("", "null")
    with suppress(ValueError):
        return float(value) == float(default)
    return value == default


def read_environment(run: Path, config: Mapping[str, str]) -> tuple[dict[str, str], bool]:
    """Return what the directory says about where and how the run was made, and whether that includes packages."""
    found: dict[str, str] = {}
    with suppress(ValueError):
        found["started"] = str(datetime.strptime(run.name[:19], "%Y-%m-%d_%H-%M-%S"))
    found |= {name: config[f"trainer.{name}"] for name in HARDWARE if f"trainer.{name}" in config}
    if "seed_everything" in config:
        found["seed"] = config["seed_everything"]
    if launches := _launch(run).get("launches"):
        found["launched by"] = ", ".join(map(str, launches))
    packages: dict[str, str] = {}
    for file in sorted(run.glob("wandb/*/files/requirements.txt")):  # of Weights & Biases; the last one wins
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        packages |= dict(line.split("==", 1) for line in lines if "==" in line)
    found |= {name: packages[name] for name in PACKAGES if name in packages}
    for file in sorted(run.glob("checkpoints/*.ckpt")):
        size = file.stat().st_size
        found[f"checkpoints/{file.name}"] = f"{size / 1e6:.1f} MB" if size > 1e5 else f"{size / 1e3:.0f} kB"
    return found, bool(packages)


def _launch(run: Path) -> dict[str, list[Any]]:
    """Return the lists in `launch.json`, none without one."""
    with suppress(OSError, ValueError):
        launch = json.loads((run / "launch.json").read_text(encoding="utf-8"))
        if isinstance(launch, dict):
            return {name: part for name, part in launch.items() if isinstance(part, list)}
    return {}


def commands(path: Path) -> dict[str, str]:
    """Return {purpose: command} of the commands that repeat a run.

    Raises:
        UserError: A recorded command contains what looks like a secret.
    """
    found = {"Train again, from the same start": f"leyden fit --config {shlex.quote(str(path / 'config.yaml'))}"}
    if command := [str(arg) for arg in _launch(path).get("command", [])]:
        check_command(command)
        found["The command of the launch"] = f"leyden {shlex.join(command)}"
    best = path / "checkpoints" / "best.ckpt"
    if best.exists():
        found["Test the best checkpoint again"] = f"leyden test --ckpt_path {shlex.quote(str(best))}"
    return found | {"Write this page again": f"leyden report {shlex.quote(str(path))}"}
