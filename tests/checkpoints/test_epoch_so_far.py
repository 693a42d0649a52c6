"""Metrics that keep every sample, such as an exact AUROC, go on where a kill has cut an epoch short."""

import os
import signal
import time
from pathlib import Path

import pytest

from leyden import PROJECT

from ..processes import Server, result, wait_for
from .test_ddp import TWO, Ranks
from .test_kills import FIT, OFTEN, QUIET

pytestmark = pytest.mark.slow

SHORT = ["--trainer.max_epochs", "3", "--data.batch_size", "100", *QUIET]  # 40 steps an epoch
CLASSES = ["fit", "--config", str(PROJECT / "configs" / "mlp_vectors.yaml"), *SHORT]
VALUES = ["fit", "--config", str(PROJECT / "configs" / "linear_regression.yaml"), *SHORT]
METRICS = [
    "--model.metrics+=torchmetrics.classification.MulticlassAUROC",  # lists of all outputs and targets
    "--model.metrics+=torchmetrics.classification.MulticlassF1Score",
    "--model.metrics+=torchmetrics.classification.MulticlassCalibrationError",
    "--model.loss=torch.nn.MultiMarginLoss",
]
OF_VALUES = [
    "--model.metrics+=torchmetrics.SpearmanCorrCoef",
    "--model.metrics+=torchmetrics.PearsonCorrCoef",  # a running mean and variance
    "--model.metrics+=torchmetrics.R2Score",
    "--model.loss=torch.nn.HuberLoss",
]


@pytest.mark.parametrize("fit", [[*CLASSES, *METRICS], [*VALUES, *OF_VALUES]], ids=["classes", "values"])
def test_a_kill_in_mid_epoch_changes_no_metric(leyden: Server, fit: list[str]) -> None:
    code, text = leyden.run(*fit, "--name", "whole")
    assert code == 0, text
    assert leyden.run(*fit, *OFTEN, "--name", "killed", at=("on_train_batch_end", 60, signal.SIGKILL))[0] == -9
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 0, text
    assert "checkpoints/last.ckpt, step 59" in text
    assert result("killed") == result("whole")


def test_loss_and_metrics_can_change_between_epochs_only(leyden: Server) -> None:
    assert leyden.run(*FIT, *OFTEN, "--name", "killed", at=("on_train_batch_end", 60, signal.SIGKILL))[0] == -9
    for flag, option in ((METRICS[0], "model.metrics was []"), (METRICS[-1], "model.loss.class_path was None")):
        code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed", flag)
        assert code == 2
        assert option in text
        assert "it cannot change in the middle of an epoch" in text


def test_metrics_can_be_added_to_a_run_that_is_given_more_epochs(leyden: Server) -> None:
    assert leyden.run(*FIT, "--trainer.max_epochs=1", "--name", "more")[0] == 0
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "more", "--trainer.max_epochs=2", METRICS[0])
    assert code == 0, text
    (file,) = Path().glob("runs/more/*/metrics.csv")
    assert "train/auroc" in file.read_text()


def test_kills_of_two_ranks_change_no_metric(leyden: Server) -> None:
    code, text = Ranks(*TWO, *METRICS, "--trainer.max_epochs=2", "--name", "whole").wait()
    assert code == 0, text
    ranks = Ranks(*TWO, *METRICS, *OFTEN, "--trainer.max_epochs=2", "--name", "killed")
    saved = wait_for("runs/killed/*/checkpoints/last.ckpt").stat().st_mtime_ns
    for _ in range(5):  # some steps on
        saved = wait_for("runs/killed/*/checkpoints/last.ckpt", after=saved).stat().st_mtime_ns
    os.killpg(ranks.main.pid, signal.SIGKILL)
    assert ranks.main.wait() == -signal.SIGKILL
    time.sleep(0.1)
    code, text = Ranks("fit", "--ckpt_path", "last", "--name", "killed").wait()
    assert code == 0, text
    assert result("killed") == result("whole")
