"""metrics.csv of a run that is resumed."""

from pathlib import Path

from leyden.runs.metrics_logger import rewind_metrics


def test_rows_after_the_checkpoint_and_half_rows_are_taken_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,train/loss\r\n0,9,0.5\r\n0,19,0.4\r\n0,29,0.3\r\n0,2")
    rewind_metrics(file, 20)
    assert file.read_text() == "epoch,step,train/loss\n0,9,0.5\n0,19,0.4\n"
