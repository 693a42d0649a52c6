"""What is read from a metrics.csv."""

from pathlib import Path

from leyden.runs.metrics import read_metrics

from .conftest import METRICS


def test_metrics_are_read_by_name_without_the_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS)
    assert read_metrics(tmp_path / "metrics.csv") == {
        "train/loss_step": ([0], [2.5]),
        "val/acc": ([0, 1], [0.5, 0.75]),
        "val/loss": ([0, 1], [2.0, 1.0]),
        "train/loss": ([0, 1], [2.25, 1.5]),
    }


def test_a_row_without_an_epoch_takes_that_of_the_next_row_or_of_the_last(tmp_path: Path) -> None:
    rows = "epoch,step,lr,val/loss,note\n,0,0.1,,\n0,9,,2.0,\n,10,0.2,,slow\n1,19,,1.0,\n,20,0.3,,\n1,2"
    (tmp_path / "metrics.csv").write_text(rows)
    curves = read_metrics(tmp_path / "metrics.csv")
    assert curves == {"lr": ([0, 1, 1], [0.1, 0.2, 0.3]), "val/loss": ([0, 1], [2.0, 1.0])}


def test_without_any_epoch_there_are_no_curves(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,val/loss\n9,2.0\n")
    assert read_metrics(tmp_path / "metrics.csv") == {}
