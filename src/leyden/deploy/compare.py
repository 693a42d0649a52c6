"""`leyden compare`: what differs between runs, in configuration and in scores, read from their directories."""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from leyden.errors import UserError
from leyden.training.record import PALETTE, read_metrics, read_rows, run_title


def read_config(run: Path) -> dict[str, str]:
    """Read a run's `config.yaml` into {option: value}, options with dots; what a class is made of stands below it.

    Raises:
        UserError: It is no run's directory.
    """
    try:
        nested = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        (run / "metrics.csv").open().close()
    except OSError as error:
        raise UserError(f"{run} is no directory of a run: it has no {Path(error.filename).name}") from error
    flat: dict[str, str] = {}

    def flatten(key: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for name, part in value.items():
                flatten(key if name in ("class_path", "init_args") else f"{key}.{name}", part)
        elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
            for part in value:
                flatten(f"{key}.{_short(part.get('class_path', '')) if isinstance(part, dict) else part}", part)
        else:
            flat[key.removeprefix(".")] = _short(value)

    flatten("", nested)
    return flat


def _short(value: Any) -> str:
    """Write a value as a flag would, and a class without its module."""
    text = "null" if value is None else str(value)
    module, _, name = text.rpartition(".")
    return name if module.replace(".", "").replace("_", "").isalpha() and name[:1].isupper() else text


def differences(configs: list[dict[str, str]]) -> dict[str, list[str]]:
    """Return {option: a value a run} of the options that are not the same in all runs, `-` where one has it not."""
    options = dict.fromkeys(option for config in configs for option in config)
    table = {option: [config.get(option, "-") for config in configs] for option in options}
    return {option: values for option, values in table.items() if len(set(values)) > 1}


def scores(run: Path, config: dict[str, str]) -> dict[str, str]:
    """Return a run's scores: those of the validation in the epoch of its best checkpoint, and those of the test."""
    prefix = "trainer.callbacks.ModelCheckpoint"
    monitor, mode = config.get(f"{prefix}.monitor", "val/loss"), config.get(f"{prefix}.mode", "min")
    rows = read_rows(run / "metrics.csv")
    found = {"epochs": str(int(max((row["epoch"] for row in rows.values() if "val/loss" in row), default=-1)) + 1)}
    judged = [row for row in rows.values() if monitor in row]
    if judged:
        best = (max if mode == "max" else min)(judged, key=lambda row: row[monitor])
        found["best epoch"] = f"{best['epoch']:.0f}"
        found |= {name: f"{value:.4g}" for name, value in sorted(best.items()) if name.startswith("val/")}
    for row in rows.values():
        found |= {name: f"{value:.4g}" for name, value in sorted(row.items()) if name.startswith("test/")}
    return found


def draw(runs: list[Path], file: Path) -> None:
    """Draw the runs' curves over one another: a panel a metric, a colour a run, dashed train and solid val."""
    from matplotlib.figure import Figure

    curves = [read_metrics(run / "metrics.csv") for run in runs]
    names = {name.partition("/")[2] for run in curves for name in run if name.startswith("val/")}
    metrics = sorted(names, key=lambda name: (name != "loss", name))
    if not metrics:
        raise UserError("none of these runs has a score of the validation")
    width = 5 * len(metrics)
    figure = Figure(figsize=(max(width, 7), 4 + 0.25 * len(runs)), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for number, (run, curve) in enumerate(zip(runs, curves, strict=True)):
            for split, line in (("train", "--"), ("val", "-")):
                if f"{split}/{metric}" in curve:
                    label = f"{run_title(run)}, {split}" if axes is figure.axes[0] else None
                    # past the palette's end the markers tell runs of the same colour apart
                    marker = "o^sDv"[number // len(PALETTE) % 5]
                    colour = PALETTE[number % len(PALETTE)]
                    axes.plot(*curve[f"{split}/{metric}"], line, marker=marker, markersize=3, color=colour, label=label)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(file, dpi=120)


def main(args: list[str]) -> int:
    """Print the table, draw the picture and return the exit code.

    Args:
        args: The words after `leyden compare`.
    """
    parser = argparse.ArgumentParser(prog="leyden compare", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's directory")
    parser.add_argument("--output", type=Path, default=Path("compare.png"), help="the picture (default: compare.png)")
    given = parser.parse_args(args)
    from rich.console import Console
    from rich.table import Column, Table

    runs = [run.absolute() for run in given.runs]
    try:
        configs = [read_config(run) for run in runs]
        rows = differences(configs)
        found = [scores(run, config) for run, config in zip(runs, configs, strict=True)]
        draw(runs, given.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = Table(Column(no_wrap=True), *(Column(run_title(run), overflow="fold") for run in runs))
    for option, values in rows.items():
        table.add_row(option, *values)
    table.add_section()
    for name in dict.fromkeys(name for run in found for name in run):
        table.add_row(name, *(run.get(name, "-") for run in found))
    Console().print(table)
    print(f"curves  {given.output}")
    return 0
