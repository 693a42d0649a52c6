"""metrics.csv, written by the logger."""

import csv
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger

from leyden.errors import RunError
from leyden.runs.metrics_logger import MetricsLogger, rewind_metrics

ROWS = [({"loss": torch.tensor(0.1), "epoch": 0}, 1), ({"loss": 0.5}, 2), ({"acc": 0.25, "epoch": 0}, 2)]


def test_the_file_is_byte_for_byte_that_of_lightnings_csv_logger(tmp_path: Path) -> None:
    for logger in (MetricsLogger(str(tmp_path / "ours")), CSVLogger(tmp_path / "theirs", name="", version="")):
        for row, step in ROWS:
            logger.log_metrics(row, step)
            logger.save()
        logger.finalize("success")
    assert (tmp_path / "ours" / "metrics.csv").read_bytes() == (tmp_path / "theirs" / "metrics.csv").read_bytes()


def test_an_existing_file_is_continued_below_its_last_row(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    whole = MetricsLogger(str(tmp_path / "whole"))
    for logger in (MetricsLogger(str(tmp_path)), MetricsLogger(str(tmp_path))):
        for row, step in ROWS:
            logger.log_metrics(row, step)
            whole.log_metrics(row, step)
        logger.finalize("success")
    whole.finalize("success")
    assert file.read_bytes() == (tmp_path / "whole" / "metrics.csv").read_bytes()


def test_rows_go_below_their_columns_in_whatever_order_these_are(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("step,loss\n0,1.5\n")
    rewind_metrics(file, 5, [{"step": 1, "acc": 0.5}])  # which adds the new column at the end
    logger = MetricsLogger(str(tmp_path))
    logger.log_metrics({"loss": 2.5, "acc": 0.75}, 2)
    logger.finalize("success")
    with file.open(newline="") as lines:
        assert list(csv.DictReader(lines))[-1] == {"step": "2", "loss": "2.5", "acc": "0.75"}


def test_rows_of_callbacks_are_saved_every_hundred_steps(tmp_path: Path) -> None:
    logger = MetricsLogger(str(tmp_path))
    for step in (98, 99, 100):
        logger.log_metrics({"lr": 0.1}, step)
    assert (tmp_path / "metrics.csv").read_text().split() == ["lr,step", "0.1,98", "0.1,99"]


def test_a_file_that_is_deleted_is_an_error_and_its_rows_are_kept(tmp_path: Path) -> None:
    logger = MetricsLogger(str(tmp_path))
    logger.log_metrics({"lr": 0.1}, 0)
    logger.save()
    (tmp_path / "metrics.csv").unlink()
    logger.log_metrics({"lr": 0.2}, 1)
    logger.save()
    assert logger.unwritten == [{"lr": 0.2, "step": 1}]
    with pytest.raises(RunError, match=r"metrics\.csv \(No such file or directory\): its last rows are lost"):
        logger.check_written("lost")


def test_hyper_parameters_that_a_module_logs_are_collected(tmp_path: Path) -> None:
    logger = MetricsLogger(str(tmp_path))
    logger.log_hyperparams({"lr": 0.1})
    logger.log_hyperparams({"size": 3})
    assert yaml.safe_load((tmp_path / "hparams.yaml").read_text()) == {"lr": 0.1, "size": 3}


def test_rows_after_the_checkpoint_and_half_rows_are_taken_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,train/loss\r\n0,9,0.5\r\n0,19,0.4\r\n0,29,0.3\r\n0,2")
    rewind_metrics(file, 20)
    assert file.read_text() == "epoch,step,train/loss\n0,9,0.5\n0,19,0.4\n"
