"""The overlay for TensorBoard, read back by TensorBoard."""

import csv
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from leyden import PROJECT
from leyden.cli.main import main

from .conftest import SHORT


def test_tensorboard_has_the_scores_of_metrics_csv_and_the_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SHORT, "--config", str(PROJECT / "configs" / "with" / "tensorboard.yaml")]) == 0
    (run,) = (tmp_path / "runs" / "convnet_digits").iterdir()
    events = EventAccumulator(str(run)).Reload()
    with (run / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    for name in ("val/loss", "val/acc", "train/loss", "test/acc", "lr"):
        expected = [(int(row["step"]), pytest.approx(float(row[name]))) for row in rows if row[name]]
        assert [(event.step, event.value) for event in events.Scalars(name)] == expected
    assert len(events.Scalars("samples_per_second")) == 2
