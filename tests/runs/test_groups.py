"""Runs of one configuration are one column, and the difference of two groups has the interval of scipy."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from leyden.runs.compare import main
from leyden.runs.groups import Group, difference, difference_lines, group_runs, verdict
from leyden.runs.statistics import Difference

OURS, THEIRS = [0.91, 0.93, 0.92, 0.95, 0.94], [0.90, 0.91, 0.92, 0.92, 0.93]


def group(values: list[float], seeds: list[int], folds: list[int] | None = None) -> Group:
    keys = [(str(seed), "null" if folds is None else str(folds[i]), 0) for i, seed in enumerate(seeds)]
    paths = [Path(f"runs/{i}") for i in seeds]
    return Group({}, paths, {key: {"test/acc": value, "epoch": 3.0} for key, value in zip(keys, values, strict=True)})


def make_run(folder: Path, seed: int, lr: float, acc: float, fold: int | None = None) -> Path:
    folder.mkdir(parents=True)
    folds = "" if fold is None else f", init_args: {{folds: 3, fold: {fold}}}"
    (folder / "config.yaml").write_text(
        f"name: {folder.parent.name}\nseed_everything: {seed}\nmodel: {{class_path: a.MLP, init_args: {{lr: {lr}}}}}\n"
        f"data: {{class_path: b.DigitsDataModule{folds}}}\nwandb: {{name: {folder.name}}}\ntrainer: {{max_epochs: 1}}\n"
    )
    (folder / "metrics.csv").write_text(f"epoch,step,val/loss,test/acc\n0,9,1.0,\n0,9,,{acc}\n")
    return folder


def test_the_same_seeds_are_compared_in_pairs() -> None:
    found = difference(group(OURS, [0, 1, 2, 3, 4]), group(THEIRS[::-1], [4, 3, 2, 1, 0]), "test/acc")
    expected = stats.ttest_rel(OURS, THEIRS)
    low, high = expected.confidence_interval(0.95)
    assert found is not None
    assert found.mean == pytest.approx(np.mean(OURS) - np.mean(THEIRS))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert found.pairs == 5
    assert (found.more == 0) == (expected.pvalue < 0.05)


def test_other_seeds_are_compared_as_wholes() -> None:
    found = difference(group(OURS[:4], [0, 1, 2, 3]), group(THEIRS, [5, 6, 7, 8, 9]), "test/acc")
    low, high = stats.ttest_ind(OURS[:4], THEIRS, equal_var=False).confidence_interval(0.95)
    assert found is not None
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert found.pairs == 0


def test_runs_on_one_fold_count_once() -> None:
    seeds, folds = [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]
    ours, theirs = [0.91, 0.93, 0.92, 0.95, 0.94, 0.96], [0.90, 0.91, 0.92, 0.92, 0.93, 0.92]
    found = difference(group(ours, seeds, folds), group(theirs, seeds, folds), "test/acc")
    of_folds = [np.reshape(values, (2, 3)).mean(0) for values in (ours, theirs)]
    low, high = stats.ttest_rel(*of_folds).confidence_interval(0.95)
    assert found is not None
    assert found.pairs == 3
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))


def test_a_single_run_has_no_interval() -> None:
    assert difference(group(OURS[:1], [0]), group(THEIRS, [0, 1, 2, 3, 4]), "test/acc") is None
    assert not list(difference_lines(group(OURS[:1], [0]), group(THEIRS[:1], [0]), "a - b"))


def test_where_there_is_no_difference_the_interval_covers_zero_in_95_of_100_draws() -> None:
    draw = np.random.default_rng(0)
    covered = [
        abs(found.mean) <= found.half_width
        for _ in range(1000)
        for a, b in [draw.normal(0.9, 0.01, (2, 5)) + draw.normal(0, 0.02, 5)]  # a seed moves both
        for found in [difference(group(a.tolist(), [*range(5)]), group(b.tolist(), [*range(5)]), "test/acc")]
        if found is not None
    ]
    assert len(covered) == 1000
    assert 0.93 <= np.mean(covered) <= 0.97


def test_the_number_of_seeds_that_would_decide_is_the_smallest() -> None:
    differences = [0.02, -0.01, 0.01, 0.005]
    found = difference(group(differences, [0, 1, 2, 3]), group([0.0] * 4, [0, 1, 2, 3]), "test/acc")
    assert found is not None
    assert found.more is not None

    def width(count: int) -> float:
        return float(stats.t.ppf(0.975, count - 1) * np.std(differences, ddof=1) / np.sqrt(count))

    assert width(4 + found.more) < np.mean(differences) <= width(3 + found.more)


def test_a_verdict_is_in_words() -> None:
    assert verdict(Difference(0.1, 0.05, 3, 0)) == "above zero"
    assert verdict(Difference(-0.1, 0.05, 3, 0)) == "below zero"
    assert verdict(Difference(0.1, 0.2, 3, 7)).startswith("not decided; about 7 more seeds")
    assert "more than 1 000" in verdict(Difference(0.0, 0.2, 3, None))


def test_runs_that_differ_by_seed_or_fold_are_one_group() -> None:
    base = {"model": "MLP", "model.lr": "0.1", "data.folds": "3"}
    configs = {
        Path(f"runs/{i}/a"): base | {"seed_everything": str(i % 2), "data.fold": str(i // 2), "wandb.name": str(i)}
        for i in range(4)
    }
    other = {Path("runs/9/a"): base | {"model.lr": "0.2", "seed_everything": "0"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leyden.runs.groups.final_scores", lambda run, config: {})
        groups = group_runs(configs | other)
    assert [len(one.runs) for one in groups] == [4, 1]


def test_the_command_shows_groups_their_difference_and_how_often_the_test_split_was_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    runs = [
        make_run(tmp_path / "runs" / f"lr{lr}" / f"seed{i}", i, lr, values[i])
        for lr, values in ((0.1, THEIRS), (0.2, OURS))
        for i in range(5)
    ]
    make_run(tmp_path / "runs" / "old" / "x", 3, 0.5, 0.5)
    random.Random(0).shuffle(runs)
    runs.sort(key=lambda run: run.parent.name)
    assert main(list(map(str, runs))) == 0
    text = capsys.readouterr().out
    assert f"{np.mean(OURS):.3f} ± {np.std(OURS, ddof=1):.3f}" in text
    low, high = stats.ttest_rel(OURS, THEIRS).confidence_interval(0.95)
    line = next(line for line in text.splitlines() if line.startswith("test/acc  lr 0.2 - lr 0.1: "))
    assert [float(number) for number in re.findall(r"[+-]0\.\d+", line)] == pytest.approx(
        [np.mean(OURS) - np.mean(THEIRS), low, high], abs=6e-4
    )
    assert "(5 pairs)" in line
    assert "the test split of DigitsDataModule was scored 11 times in runs" in text
