"""The pictures of learning curves."""

from pathlib import Path

import matplotlib.image
import pytest

from leyden.runs.curves import draw_curves

from .conftest import METRICS


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "some_experiment" / "some_time"
    directory.mkdir(parents=True)
    (directory / "metrics.csv").write_text(METRICS)
    return directory


def size(file: Path) -> tuple[int, int]:
    height, width, _ = matplotlib.image.imread(file).shape
    return width, height


def test_a_run_without_an_epoch_has_no_picture(run: Path) -> None:
    (run / "metrics.csv").write_text("step,val/loss\n9,2.0\n")
    assert not draw_curves(run / "curves.png", [run])
    assert not (run / "curves.png").exists()


def test_there_is_a_panel_for_each_metric_of_the_validation(run: Path) -> None:
    assert draw_curves(run / "curves.png", [run])
    assert size(run / "curves.png") == (
        1200,
        480,
    )  # two panels of 5 by 4 inches, at 120 dots an inch


def test_several_runs_are_drawn_with_a_longer_legend(run: Path, tmp_path: Path) -> None:
    assert draw_curves(tmp_path / "both.png", [run, run], ["one", "other"])
    assert size(tmp_path / "both.png") == (1200, 540)
