"""Read a run's directory without torch: its title, kind, end and metrics."""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LAUNCH = "launch.json"  # see leyden.runs.launches
CHECKPOINT = "trainer.callbacks.ModelCheckpoint"  # options of the callback that saves best.ckpt


def run_title(directory: Path) -> str:
    """Return a run's title in pictures: its experiment and time."""
    return f"{directory.parent.name} {directory.name}"


def is_evaluation(directory: Path) -> bool:
    """Return whether a directory is one of `leyden validate`, `test` or `predict`, by its name."""
    return re.search(r"_(validate|test|predict)(-\d+)?$", directory.name) is not None


def has_ended(run: Path) -> bool:
    """Return whether a run that `leyden repeat` or another launcher started has ended, with all that follows it."""
    try:
        return bool(json.loads((run / LAUNCH).read_text(encoding="utf-8")).get("ended"))
    except (OSError, ValueError):  # nothing launched it, or a kill left no whole file
        return False


def read_rows(file: Path) -> dict[int, dict[str, float]]:
    """Read a `metrics.csv` into {step: {name: value}}; `epoch` is one of the names.

    Cells without a number and rows that a kill left incomplete are omitted.
    """
    steps: dict[int, dict[str, float]] = {}
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if None in row or None in row.values():  # more or fewer cells than the header
                continue
            cells = {name: number for name, cell in row.items() if (number := _number(cell)) is not None}
            step = cells.pop("step", None)
            if step is not None:
                steps.setdefault(int(step), {}).update(cells)
    return steps


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def read_metrics(file: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Read a `metrics.csv` into {metric: (epochs, values)}.

    A row without an epoch, as some callbacks log, takes the epoch of the next row that has one, or else of the row
    before. Without any epoch the result is empty.
    """
    rows = [row for _, row in sorted(read_rows(file).items())]
    epoch = None
    for row in [*reversed(rows), *rows]:  # fill backwards, then the last rows forwards
        epoch = row.setdefault("epoch", epoch) if epoch is not None else row.get("epoch")
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "epoch" and "epoch" in row:
                epochs, values = curves.setdefault(name, ([], []))
                epochs.append(row["epoch"])
                values.append(value)
    return curves


def best_scores(checkpoint: Any, directory: Path) -> dict[str, float]:
    """Return the scores and the `epoch` of the best checkpoint; empty if there is none.

    Args:
        checkpoint: The ModelCheckpoint that saved it.
        directory: The run's directory; without a `metrics.csv` in it, only the monitored score is known.
    """
    if getattr(checkpoint, "best_model_score", None) is None:
        return {}
    best, monitor, file = float(checkpoint.best_model_score), str(checkpoint.monitor), directory / "metrics.csv"
    rows = read_rows(file).values() if file.exists() else ()
    return next((row for row in rows if row.get(monitor) == best), {monitor: best})


def final_scores(run: Path, options: Mapping[str, Any]) -> dict[str, float]:
    """Return a run's validation scores in the epoch of its best checkpoint, that `epoch`, and its test scores.

    Args:
        run: The run's directory.
        options: Its flat configuration, with lists split; see `leyden.runs.flat_config.flat`.
    """
    monitor = options.get(f"{CHECKPOINT}.monitor", "val/loss")
    best_of = max if options.get(f"{CHECKPOINT}.mode", "min") == "max" else min
    rows = read_rows(run / "metrics.csv").values()
    candidates = [row for row in rows if monitor in row]
    best = best_of(candidates, key=lambda row: row[monitor]) if candidates else {}
    found = {name: best[name] for name in sorted(best) if name == "epoch" or name.startswith("val")}
    for row in rows:
        found |= {name: row[name] for name in sorted(row) if name.startswith("test")}
    return found
