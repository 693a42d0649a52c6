"""`leyden compare`: show how the configurations and scores of runs differ, from the files in their directories."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leyden.errors import UserError
from leyden.runs.curves import draw_curves
from leyden.runs.directory import RUNS, short_path
from leyden.runs.evaluations import PREDICTIONS, count_looks, prediction_lines
from leyden.runs.flat_config import different_options
from leyden.runs.groups import Group, difference_lines, group_runs
from leyden.runs.metrics import final_scores, read_rows, run_title
from leyden.runs.stored_config import read_configs

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def differences(configs: list[dict[str, str]]) -> dict[str, list[str]]:
    """Return {option: value in each run} of the options that are not the same in all runs; `-` if a run lacks it."""
    table = different_options(*configs)
    return {option: ["-" if value is None else value for value in values] for option, values in table.items()}


def short_names(options: Sequence[str]) -> list[str]:
    """Return the shortest unambiguous end of each option: `lr` for `model.optimizer.lr`."""

    def ends(option: str) -> list[str]:
        parts = option.split(".")
        return [".".join(parts[start:]) for start in reversed(range(len(parts)))]

    count = Counter(end for option in options for end in ends(option))
    return [next(end for end in ends(option) if count[end] == 1 or end == option) for option in options]


def describe(rows: dict[str, list[str]], number: int) -> str:
    """Return how one run differs from the others: `lr 0.1, dropout 0.5`.

    Args:
        rows: The result of `differences`.
        number: Index of the run.
    """
    values = zip(short_names(list(rows)), rows.values(), strict=True)
    return ", ".join(f"{name} {row[number]}" for name, row in values if row[number] != "-")


def labels_of(rows: dict[str, list[str]], titles: Sequence[str]) -> list[str]:
    """Return a label for each run: how it differs, or its title where that does not tell it from the others."""
    labels = [describe(rows, number) for number in range(len(titles))]
    return [
        title if labels.count(label) > 1 or not label else label for label, title in zip(labels, titles, strict=True)
    ]


def scores(run: Path, config: dict[str, str]) -> dict[str, str]:
    """Return a run's validation scores in the epoch of its best checkpoint, and its test scores."""
    rows = read_rows(run / "metrics.csv")
    epochs = [row["epoch"] for row in rows.values() if "epoch" in row and any(name.startswith("val") for name in row)]
    found = {"epochs": str(int(max(epochs, default=-1)) + 1)}
    for name, value in final_scores(run, config).items():
        found["best epoch" if name == "epoch" else name] = f"{value:.0f}" if name == "epoch" else f"{value:.4g}"
    return found


def as_columns(titles: list[str], rows: dict[str, list[str]], found: list[dict[str, str]]) -> "Table":
    """Return a table with a column for each run: the options that differ, then the scores."""
    from rich.table import Column, Table

    table = Table(Column(no_wrap=True), *(Column(title.replace(" ", "\n"), overflow="fold") for title in titles))
    for option, values in rows.items():
        table.add_row(option, *values)
    table.add_section()
    for name in dict.fromkeys(name for run in found for name in run):
        table.add_row(name, *(run.get(name, "-") for run in found))
    return table


def as_rows(titles: list[str], rows: dict[str, list[str]], found: list[dict[str, str]]) -> "Table":
    """Return a table with a row for each run, for narrow terminals; the common start of the names is its title."""
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


def show_table(titles: list[str], rows: dict[str, list[str]], found: list[dict[str, str]], console: "Console") -> None:
    """Print a table with a column for each title, or with a row, if the columns do not fit."""
    from rich.console import Console

    table = as_columns(titles, rows, found)
    if Console(width=sys.maxsize).measure(table).maximum > console.width:
        table = as_rows(titles, rows, found)
    console.print(table)


def show_groups(groups: list[Group], console: "Console") -> None:
    """Print a table of groups of runs, and how each differs from the first."""
    rows = differences([group.config for group in groups])
    titles = [group.title for group in groups]
    show_table(titles, rows, [group.cells() for group in groups], console)
    labels = labels_of(rows, titles)
    for group, label in zip(groups[1:], labels[1:], strict=True):
        for line in difference_lines(group, groups[0], f"{label} - {labels[0]}"):
            print(line)


def show_looks(configs: dict[Path, dict[str, str]]) -> None:
    """Print how often the test split of these runs was scored: a choice made by it makes the best score too good."""
    for data in dict.fromkeys(config["data"] for config in configs.values() if "data" in config):
        root = next(iter(configs)).parents[1]
        root = next((folder for folder in next(iter(configs)).parents if folder.name == RUNS), root)
        if (count := count_looks(root, data)) > 1:
            print(f"the test split of {data} was scored {count:,} times in {short_path(root)}: choose by val/ scores")


def main(args: list[str]) -> int:
    """Print the table, draw the picture and return the exit code.

    Args:
        args: The arguments after `leyden compare`.
    """
    parser = argparse.ArgumentParser(prog="leyden compare", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's directory")
    parser.add_argument("--output", type=Path, default=Path("compare.png"), help="the picture (default: compare.png)")
    options = parser.parse_args(args)
    from rich.console import Console

    runs = [path.absolute() for path in options.runs]
    try:
        if all((run / PREDICTIONS).is_file() for run in runs):
            print("\n".join(prediction_lines(runs)))
            return 0
        configs = read_configs(runs)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    runs = list(configs)
    rows = differences(list(configs.values()))
    titles = [run_title(run) for run in runs]
    groups = group_runs(configs)
    if len(groups) < len(runs):
        show_groups(groups, Console())
    else:
        show_table(titles, rows, [scores(run, config) for run, config in configs.items()], Console())
    show_looks(configs)
    try:
        drawn = draw_curves(options.output, runs, labels_of(rows, titles))
    except OSError as error:
        print(f"no curves: cannot write {options.output} ({error.strerror})", file=sys.stderr)
        return 0
    if drawn:
        print(f"curves  {options.output}")
    else:
        print("no curves: none of these runs has a score of the validation", file=sys.stderr)
    return 0
