"""What is read back from metrics.csv for the curves."""

from pathlib import Path

import matplotlib.image
import pytest

from leyden.callbacks.learning_curves import draw_curves
from leyden.runs.metrics import read_metrics

METRICS = """epoch,step,train/loss,train/loss_step,val/acc,val/loss
0,4,,2.5,,
0,9,,,0.5,2.0
0,9,2.25,,,
1,19,,,0.75,1.0
1,19,1.5,,,
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "some_experiment" / "some_time"
    directory.mkdir(parents=True)
    (directory / "metrics.csv").write_text(METRICS)
    return directory


def test_metrics_are_read_by_name_without_the_empty_cells(run: Path) -> None:
    assert read_metrics(run / "metrics.csv") == {
        "train/loss_step": ([0], [2.5]),
        "val/acc": ([0, 1], [0.5, 0.75]),
        "val/loss": ([0, 1], [2.0, 1.0]),
        "train/loss": ([0, 1], [2.25, 1.5]),
    }


def test_a_row_without_an_epoch_takes_that_of_the_next_row_or_of_the_last(run: Path) -> None:
    rows = "epoch,step,lr,val/loss,note\n,0,0.1,,\n0,9,,2.0,\n,10,0.2,,slow\n1,19,,1.0,\n,20,0.3,,\n1,2"
    (run / "metrics.csv").write_text(rows)
    curves = read_metrics(run / "metrics.csv")
    assert curves == {"lr": ([0, 1, 1], [0.1, 0.2, 0.3]), "val/loss": ([0, 1], [2.0, 1.0])}
    draw_curves(run)


def test_without_any_epoch_nothing_is_drawn(run: Path) -> None:
    (run / "metrics.csv").write_text("step,val/loss\n9,2.0\n")
    assert read_metrics(run / "metrics.csv") == {}
    draw_curves(run)
    assert not (run / "curves.png").exists()


def test_curves_are_drawn_with_a_panel_for_each_metric_of_the_validation(run: Path) -> None:
    draw_curves(run)
    height, width, _ = matplotlib.image.imread(run / "curves.png").shape
    assert (width, height) == (1200, 480)  # two panels, loss and accuracy, of 5 by 4 inches at 120 dots an inch
