"""The table of `leyden repeat`, from scores written by hand."""

import csv
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from leyden.runs.repeat_plan import Part, Plan
from leyden.runs.repeat_table import as_table, show, summarise

from .test_compare import make_run

VALUES = np.random.default_rng(0).normal(0.9, 0.02, (3, 4))  # seeds, folds


def test_seeds_are_summarised_as_scipy_does() -> None:
    values = VALUES[:, 0].tolist()
    (row,) = summarise({Part(seed, None): {"test/acc": value, "epoch": 3.0} for seed, value in enumerate(values)})
    interval = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert row.half_width is not None
    assert (row.mean - row.half_width, row.mean + row.half_width) == pytest.approx(interval, rel=1e-9)
    assert (row.score, row.runs) == ("test/acc", 3)
    assert (row.mean, row.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))


def test_with_folds_and_seeds_the_interval_is_that_of_the_means_of_the_folds() -> None:
    scores = {Part(seed, fold): {"val/acc": float(VALUES[seed, fold])} for seed in range(3) for fold in range(4)}
    (row,) = summarise(scores)
    means = VALUES.mean(axis=0)
    low, high = stats.t.interval(0.95, 3, loc=means.mean(), scale=stats.sem(means))
    assert row.half_width == pytest.approx((high - low) / 2, rel=1e-9)
    assert (row.mean, row.sd, row.runs) == (pytest.approx(VALUES.mean()), pytest.approx(VALUES.std(ddof=1)), 12)


def test_one_run_has_a_mean_and_nothing_else() -> None:
    (row,) = summarise({Part(0, None): {"test/acc": 0.5}})
    assert row == ("test/acc", 0.5, None, None, 1)


def test_the_table_has_the_decimals_of_the_error() -> None:
    rows = summarise({Part(seed, None): {"a": a, "b": 7.0} for seed, a in enumerate((98.11, 98.52, 98.86))})
    console = Console(width=80, record=True)
    console.print(as_table([*rows, *summarise({Part(0, None): {"c": 1 / 3}})]))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["a", "98.5", "0.4", "97.6", "to", "99.4", "3"] in lines
    assert ["b", "7", "0", "7", "to", "7", "3"] in lines
    assert ["c", "0.3333", "-", "-", "1"] in lines


def test_the_runs_and_the_summary_are_written_and_what_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = Plan(tmp_path, "digits", [], 3, None, 1)
    runs = {Part(seed, None): make_run(plan.folder / f"seed-{seed}" / "now", 0.1, 0.5 + seed) for seed in (0, 1)}
    show(plan, runs, {Part(2, None): "exit code 1; error: no memory"})
    assert "missing: seed 2 (exit code 1; error: no memory)" in capsys.readouterr().out
    with (plan.folder / "runs.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["seed"], row["fold"], row["run"]) for row in rows] == [
        ("0", "", "seed-0/now"),
        ("1", "", "seed-1/now"),
    ]
    assert [(row["epoch"], row["val/loss"], row["test/acc"]) for row in rows] == [("1.0", "1.0", "0.5")] * 2
    with (plan.folder / "summary.csv").open(newline="") as lines:
        summary = {row.pop("score"): row for row in csv.DictReader(lines)}
    assert summary["val/acc"] == {"mean": "0.75", "sd": "0.0", "low": "0.75", "high": "0.75", "runs": "2"}
