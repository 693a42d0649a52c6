"""The line that says how many samples an optimizer step takes."""

import re
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from leyden.callbacks.global_batch import GlobalBatch
from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.models.mlp import MLP


def lines(capsys: pytest.CaptureFixture[str], *callbacks: Callback, **options: Any) -> list[str]:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    quiet |= {"enable_checkpointing": False, "accelerator": "cpu", "max_epochs": 3}
    data = SyntheticClustersDataModule(num_samples=300, val_size=100, batch_size=50)
    model = MLP(input_shape=(10,), num_classes=10)
    Trainer(**quiet, **options, callbacks=[*callbacks, GlobalBatch()]).fit(model, data)
    return re.findall("^batch.*", capsys.readouterr().out, re.MULTILINE)


def test_one_process_with_one_batch_a_step_needs_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys) == []


def test_accumulated_batches_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = lines(capsys, accumulate_grad_batches=3)  # of the 4 batches of 200 samples
    assert line == "batch 150 = 50 x 3 accumulated; 2 steps an epoch; the learning rate stays 0.001"


def test_a_line_says_where_the_number_of_accumulated_batches_changes(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, GradientAccumulationScheduler({1: 2, 2: 4})) == [
        "batch 100 = 50 x 2 accumulated; 2 steps an epoch; the learning rate stays 0.001",
        "batch 200 = 50 x 4 accumulated; 1 step an epoch; the learning rate stays 0.001",
    ]
