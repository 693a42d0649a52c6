"""Predictions are compared on the same samples."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from leyden.errors import UserError
from leyden.runs.compare import main
from leyden.runs.evaluations import prediction_lines


def predictions(folder: Path, right: np.ndarray, first: int = 0) -> Path:
    folder.mkdir(parents=True)
    rows = [f"{first + i},{'cat' if ok else 'dog'},cat,0.9" for i, ok in enumerate(right)]
    (folder / "predictions.csv").write_text("\n".join(["index,class,truth,probability", *rows]) + "\n")
    return folder


def test_the_difference_is_that_of_each_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    ours = draw.random(2000) < 0.9
    theirs = np.where(draw.random(2000) < 0.05, ~ours, ours)
    folders = [predictions(tmp_path / "a_predict", ours), predictions(tmp_path / "b_predict", theirs)]
    assert main(list(map(str, folders))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"a_predict  accuracy {ours.mean():.4f} of 2,000 samples"
    low, high = stats.ttest_rel(ours.astype(float), theirs.astype(float)).confidence_interval(0.95)
    found = [float(number) for number in re.findall(r"[+-]\d\.\d+", lines[2])]
    assert found == pytest.approx([ours.mean() - theirs.mean(), low, high], abs=2e-4)
    only = [(ours & ~theirs).sum(), (~ours & theirs).sum()]
    assert lines[2].endswith(f"only the first is right on {only[0]}, only the second on {only[1]}")


def test_without_a_difference_the_interval_covers_zero_in_95_of_100_draws(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    covered = []
    for i in range(300):
        common = draw.random(400) < 0.5
        pair = [np.where(draw.random(400) < 0.2, common, draw.random(400) < 0.9) for _ in range(2)]
        folders = [predictions(tmp_path / f"{i}{name}", right) for name, right in zip("ab", pair, strict=True)]
        words = list(prediction_lines(folders))[2].split("interval ")[1].split()
        covered.append(float(words[0]) <= 0 <= float(words[2]))
    assert 0.92 <= np.mean(covered) <= 0.98


def test_other_samples_and_other_tables_are_refused(tmp_path: Path) -> None:
    one, other = (predictions(tmp_path / str(first), np.ones(5), first) for first in (0, 1))
    with pytest.raises(UserError, match="are predictions for different samples"):
        list(prediction_lines([one, other]))
    (other / "predictions.csv").write_text("index,y0\n0,1.5\n")
    with pytest.raises(UserError, match="no classes and truths"):
        list(prediction_lines([one, other]))
    assert main([str(one), str(other)]) == 2
