"""`leyden compare`: what differs between runs, in configuration and in scores, read from their directories."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from leyden.errors import UserError
from leyden.runs.metrics import PALETTE, is_evaluation, read_metrics, read_rows, run_title

if TYPE_CHECKING:
    from rich.table import Table


def read_config(run: Path) -> dict[str, str]:
    """Read a run's `config.yaml` into {option: value}, options with dots; what a class is made of stands below it.

    Raises:
        UserError: It is not the directory of a training run that has logged something.
    """
    try:
        nested = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        rows = read_rows(run / "metrics.csv")
    except OSError as error:
        raise UserError(f"{run} is no directory of a run: it has no {Path(error.filename).name}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{run} has a config.yaml that is no YAML") from error
    if is_evaluation(run):
        raise UserError(f"{run} is an evaluation, not a training run")
    if not rows:
        raise UserError(f"{run} ended before it logged anything")
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


def short_names(options: Sequence[str]) -> list[str]:
    """Return the shortest end of each option that means no other one: `lr` for `model.optimizer.lr`."""

    def ends(option: str) -> list[str]:
        parts = option.split(".")
        return [".".join(parts[start:]) for start in reversed(range(len(parts)))]

    count = Counter(end for option in options for end in ends(option))
    return [next(end for end in ends(option) if count[end] == 1 or end == option) for option in options]


def describe(rows: dict[str, list[str]], number: int) -> str:
    """Say what tells one run from the others: `lr 0.1, dropout 0.5`.

    Args:
        rows: What `differences` returns.
        number: Of the run.
    """
    values = zip(short_names(list(rows)), rows.values(), strict=True)
    return ", ".join(f"{name} {row[number]}" for name, row in values if row[number] != "-")


def scores(run: Path, config: dict[str, str]) -> dict[str, str]:
    """Return a run's scores: those of the validation in the epoch of its best checkpoint, and those of the test."""
    prefix = "trainer.callbacks.ModelCheckpoint"
    monitor, mode = config.get(f"{prefix}.monitor", "val/loss"), config.get(f"{prefix}.mode", "min")
    rows = read_rows(run / "metrics.csv")
    epochs = [row["epoch"] for row in rows.values() if "epoch" in row and any(name.startswith("val") for name in row)]
    found = {"epochs": str(int(max(epochs, default=-1)) + 1)}
    judged = [row for row in rows.values() if monitor in row]
    if judged:
        best = (max if mode == "max" else min)(judged, key=lambda row: row[monitor])
        if "epoch" in best:
            found["best epoch"] = f"{best['epoch']:.0f}"
        found |= {name: f"{value:.4g}" for name, value in sorted(best.items()) if name.startswith("val")}
    for row in rows.values():
        found |= {name: f"{value:.4g}" for name, value in sorted(row.items()) if name.startswith("test")}
    return found


def draw(runs: list[Path], labels: list[str], file: Path) -> None:
    """Draw the runs' curves over one another: a panel a metric, a colour a run, dashed train and solid val.

    Raises:
        UserError: No run has a score of the validation, or the picture cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    curves = [read_metrics(run / "metrics.csv") for run in runs]
    names = {name.partition("/")[2] for run in curves for name in run if name.startswith("val/")}
    metrics = sorted(names, key=lambda name: (name != "loss", name))
    if not metrics:
        raise UserError("none of these runs has a score of the validation")
    width = 5 * len(metrics)
    figure = Figure(figsize=(max(width, 7), 4 + 0.25 * len(runs)), layout="constrained")
    styles: dict[str, Any] = {"train": "--", "val": "-"}
    handles = [Line2D([], [], linestyle=line, color="black", label=split) for split, line in styles.items()]
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for number, curve in enumerate(curves):
            # past the palette's end the markers tell runs of the same colour apart
            look: Any = {"color": PALETTE[number % len(PALETTE)], "marker": "o^sDv"[number // len(PALETTE) % 5]}
            if len(handles) < 2 + len(runs):
                handles.append(Line2D([], [], label=labels[number], **look))
            for split, line in styles.items():
                if f"{split}/{metric}" in curve:
                    axes.plot(*curve[f"{split}/{metric}"], line, markersize=3, **look)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.legend(handles=handles, loc="outside lower center", ncols=1 if max(map(len, labels)) > 40 else 2, fontsize=8)
    try:
        figure.savefig(file, dpi=120)
    except OSError as error:
        raise UserError(f"cannot write {file} ({error.strerror})") from error


def as_columns(titles: list[str], rows: dict[str, list[str]], found: list[dict[str, str]]) -> "Table":
    """Return the table with a column a run: the options that differ, and below them the scores."""
    from rich.table import Column, Table

    table = Table(Column(no_wrap=True), *(Column(title.replace(" ", "\n"), overflow="fold") for title in titles))
    for option, values in rows.items():
        table.add_row(option, *values)
    table.add_section()
    for name in dict.fromkeys(name for run in found for name in run):
        table.add_row(name, *(run.get(name, "-") for run in found))
    return table


def as_rows(titles: list[str], rows: dict[str, list[str]], found: list[dict[str, str]]) -> "Table":
    """Return the table with a row a run, which fits a narrow terminal: what the runs' names share goes to the top."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    shared = os.path.commonprefix(titles)  # noqa: RUF071  # these are no paths
    shared = shared[: max(shared.rfind(mark) for mark in " _") + 1]
    names = list(dict.fromkeys(name for run in found for name in run))
    heads = [name.replace(" ", "\n").replace("/", "/\n") for name in names]
    columns = [Column(head, justify="right", no_wrap=True) for head in heads]
    table = Table("run", Column("what differs", overflow="fold"), *columns, box=SIMPLE_HEAD, padding=0)
    table.title = f"{shared}..." if shared else None
    for number, (title, run) in enumerate(zip(titles, found, strict=True)):
        cells = describe(rows, number).replace(", ", "\n")
        table.add_row(title.removeprefix(shared), cells, *(run.get(name, "-") for name in names))
    return table


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

    configs: dict[Path, dict[str, str]] = {}
    refused: dict[str, UserError] = {}
    for path in given.runs:
        run = path.absolute()
        try:
            configs[run] = read_config(run)
        except UserError as error:
            refused[run.name] = error
    if not configs:
        print(f"error: {next(iter(refused.values()))}", file=sys.stderr)
        return 2
    if refused:
        print(f"passed over, as no training run with a metrics.csv: {' '.join(refused)}", file=sys.stderr)
    runs = list(configs)
    rows = differences(list(configs.values()))
    found = [scores(run, config) for run, config in configs.items()]
    titles = [run_title(run) for run in runs]
    console = Console()
    table = as_columns(titles, rows, found)
    if Console(width=sys.maxsize).measure(table).maximum > console.width:
        table = as_rows(titles, rows, found)
    console.print(table)
    labels = [describe(rows, number) for number in range(len(runs))]
    labels = [
        title if labels.count(label) > 1 or not label else label for label, title in zip(labels, titles, strict=True)
    ]
    try:
        draw(runs, labels, given.output)
    except UserError as error:
        print(f"no curves: {error}", file=sys.stderr)
        return 0
    print(f"curves  {given.output}")
    return 0
