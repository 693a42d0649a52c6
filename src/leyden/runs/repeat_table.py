"""The scores of the runs of `leyden repeat`: mean, standard deviation and 95 % interval; needs no torch."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from leyden.durable import replacing
from leyden.runs.directory import short_path
from leyden.runs.flat_config import flat
from leyden.runs.metrics import final_scores
from leyden.runs.repeat_plan import Part, Plan
from leyden.runs.statistics import decimals, half_width

if TYPE_CHECKING:
    from rich.table import Table

Scores = dict[str, float]
RUNS_FILE, SUMMARY_FILE = "runs.csv", "summary.csv"


class Summary(NamedTuple):
    """One score over all runs.

    Args:
        score: Its name.
        mean: Its mean.
        sd: Standard deviation of the runs; None of one run.
        half_width: Half the width of the 95 % interval of the mean; None if there is nothing to estimate it from.
        runs: Number of runs that have it.
    """

    score: str
    mean: float
    sd: float | None
    half_width: float | None
    runs: int


def read_scores(run: Path) -> Scores:
    """Return the scores of a run that has ended."""
    options = flat(yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")), split_lists=True)
    return final_scores(run, options)


def summarise(scores: Mapping[Part, Scores]) -> list[Summary]:
    """Return the mean of each score with its interval, by Student's t.

    Runs on the same fold share all their training samples, so they are no independent measurements of what another
    training set would give. With several folds, the interval is therefore that of the means of the folds.
    """
    names = sorted({name for found in scores.values() for name in found} - {"epoch"})
    return [_summarise(name, {part: found[name] for part, found in scores.items() if name in found}) for name in names]


def _summarise(name: str, values: Mapping[Part, float]) -> Summary:
    groups: dict[int, list[float]] = {}
    for part, value in values.items():
        groups.setdefault(_group(part), []).append(value)
    means = [statistics.mean(group) for group in groups.values()]
    sd = statistics.stdev(values.values()) if len(values) > 1 else None
    return Summary(name, statistics.mean(means), sd, half_width(means) if len(means) > 1 else None, len(values))


def _group(part: Part) -> int:
    """Return the number of the independent measurement to which a run belongs: its fold, or else its seed."""
    return part.seed if part.fold is None else part.fold


def as_table(rows: Sequence[Summary]) -> "Table":
    """Return the table that is printed, with the decimals of the standard deviation or the interval."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    heads = ("mean", "sd", "95 % interval", "runs")
    table = Table("score", *(Column(head, justify="right") for head in heads), box=SIMPLE_HEAD)
    for row in rows:
        error = min(row.sd or 0, row.half_width or 0)
        digits = f".{decimals(error)}f" if error else ".4g"
        low, high = (row.mean - (row.half_width or 0), row.mean + (row.half_width or 0))
        interval = "-" if row.half_width is None else f"{low:{digits}} to {high:{digits}}"
        sd = "-" if row.sd is None else f"{row.sd:{digits}}"
        table.add_row(row.score, f"{row.mean:{digits}}", sd, interval, str(row.runs))
    return table


def write_files(plan: Plan, runs: Mapping[Part, Path], scores: Mapping[Part, Scores], rows: Sequence[Summary]) -> None:
    """Write `runs.csv`, a row for each run, and `summary.csv`, a row for each score, in full precision."""
    names = sorted({name for found in scores.values() for name in found})
    _write(
        plan.folder / RUNS_FILE,
        ["seed", "fold", "run", *names],
        [
            [part.seed, part.fold, runs[part].relative_to(plan.folder), *(found.get(name) for name in names)]
            for part, found in scores.items()
        ],
    )
    intervals = [
        (None, None) if row.half_width is None else (row.mean - row.half_width, row.mean + row.half_width)
        for row in rows
    ]
    _write(
        plan.folder / SUMMARY_FILE,
        ["score", "mean", "sd", "low", "high", "runs"],
        [[row.score, row.mean, row.sd, *ends, row.runs] for row, ends in zip(rows, intervals, strict=True)],
    )


def show(plan: Plan, runs: Mapping[Part, Path], failures: Mapping[Part, str]) -> None:
    """Print and write the scores of the runs that have ended, and name those that are missing.

    Args:
        plan: All runs.
        runs: {run: its directory} of those that have ended.
        failures: {run: why it has failed}.
    """
    from rich.console import Console

    scores = {part: read_scores(runs[part]) for part in plan.parts if part in runs}
    if rows := summarise(scores):
        write_files(plan, runs, scores, rows)
        count = len({_group(part) for part in scores})
        groups = f"{count} seeds" if plan.folds is None else f"the means of {count} folds"
        interval = f"; interval from {groups}" if count > 1 else ""
        print(f"\n{plan.name}: {len(scores)} of {len(plan.parts)} runs{interval}")
        Console().print(as_table(rows))
        print(f"runs  {short_path(plan.folder)}", flush=True)
    for part in plan.parts:
        if part not in runs:
            print(f"missing: {part} ({failures.get(part, 'not trained')})", flush=True)


def _write(file: Path, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with replacing(file) as part, part.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines, lineterminator="\n").writerows([head, *rows])
