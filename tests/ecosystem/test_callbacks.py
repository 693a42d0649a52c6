"""Every stock callback of Lightning 2.6: it works and resumes exactly, or one line says why not."""

import csv
import re
import signal
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import Callback

from leyden import PROJECT
from leyden.cli.main import main

from ..checkpoints.test_kills import FIT
from ..processes import Server, result, run_of, weights_hash

pytestmark = pytest.mark.slow

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
TESTED = ["--test_after_fit=true", "--trainer.limit_test_batches=2"]
SHORT = ["fit", "--config", DIGITS, "--trainer.max_epochs=1", "--trainer.limit_train_batches=3", *TESTED]
RESNET = [  # a frozen backbone with batch-norm, unfrozen in the second epoch
    "--model=TransferClassifier",
    "--model.backbone=resnet18",
    "--model.image_size=32",
    "--model.lr_scheduler=null",
    "--trainer.limit_train_batches=4",
    "--trainer.limit_val_batches=1",
]
EXACT = {
    "BackboneFinetuning": ["--trainer.callbacks.unfreeze_backbone_at_epoch=1", *RESNET],
    "BatchSizeFinder": ["--trainer.callbacks.max_trials=3"],  # 2, 4, 8, 16
    "DeviceStatsMonitor": [],
    "EMAWeightAveraging": [],
    "EarlyStopping": ["--trainer.callbacks.monitor=val/loss"],
    "GradientAccumulationScheduler": ["--trainer.callbacks.scheduling={0: 1, 1: 3}"],
    "LambdaCallback": [],
    "LearningRateFinder": ["--trainer.callbacks.min_lr=1e-4"],
    "LearningRateMonitor": [],
    "ModelCheckpoint": ["--trainer.callbacks.monitor=val/acc", "--trainer.callbacks.mode=max"],
    "OnExceptionCheckpoint": ["--trainer.callbacks.dirpath=exceptions"],
    "RichModelSummary": ["--trainer.enable_model_summary=true"],
    "RichProgressBar": ["--trainer.enable_progress_bar=true"],
    "TQDMProgressBar": ["--trainer.enable_progress_bar=true"],
    "WeightAveraging": [],
}
WARNED = {
    "ModelPruning": ["--trainer.callbacks.pruning_fn=l1_unstructured", "--trainer.callbacks.amount=0.5"],
    "Timer": ["--trainer.callbacks.duration=00:01:00:00"],
}
REFUSED = {
    "StochasticWeightAveraging": (["--trainer.callbacks.swa_lrs=0.01"], "take leyden.callbacks.swa.SWA"),
    "lightning.pytorch.callbacks.spike.SpikeDetection": ([], "SpikeDetection cannot be read back"),
    "ThroughputMonitor": ([], "batch_size_fn"),  # a function, which only Python can give
}
OURS = {"ModelSummary": "in configs/defaults.yaml"}
ABSTRACT = {"BaseFinetuning", "BasePredictionWriter", "Callback", "Checkpoint", "ProgressBar"}


def test_every_stock_callback_is_tried_here() -> None:
    stock = {name for name in callbacks.__all__ if issubclass(getattr(callbacks, name), Callback)}
    tried = {*EXACT, *WARNED, *OURS, *(name.rpartition(".")[2] for name in REFUSED)}
    assert tried == stock - ABSTRACT | {"SpikeDetection"}


@pytest.mark.parametrize("name", EXACT)
def test_a_run_with_a_stock_callback_is_tested_and_resumes_exactly(leyden: Server, name: str) -> None:
    words = [*FIT, f"--trainer.callbacks+={name}", *EXACT[name], *TESTED]
    code, text = leyden.run(*words, "--name", "whole")
    assert code == 0, text
    steps = 6 if name == "BackboneFinetuning" else 50
    code, text = leyden.run(*words, "--name", "killed", at=("on_train_batch_end", steps, signal.SIGKILL))
    assert code == -9, text
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 0, text
    assert "is not exact" not in text
    assert without_times(result("killed")) == without_times(result("whole"))


def without_times(found: tuple[str, str]) -> tuple[str, list[dict[str, str]]]:
    """The weights, and the rows of metrics.csv but for what a clock or the system says."""
    rows = list(csv.DictReader(found[1].splitlines()))
    return found[0], [{name: cell for name, cell in row.items() if "DeviceStats" not in name} for row in rows]


@pytest.mark.parametrize("name", WARNED)
def test_a_callback_that_no_resume_can_repeat_is_named_at_the_start_and_at_the_resume(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*SHORT, f"--trainer.callbacks+={name}", *WARNED[name]]
    resume = [
        "fit",
        "--ckpt_path",
        "last",
        "--trainer.max_epochs=2",
        "--lr_scheduler=restart",
        "--test_after_fit",
        "false",
    ]
    for command, begin in ((words, "a resume of this run will not be exact"), (resume, "this resume is not exact")):
        caplog.clear()
        assert main(command) == 0
        assert caplog.text.count(f"{begin}: {name}, as ") == 1


@pytest.mark.parametrize("name", REFUSED)
def test_a_callback_that_would_lose_work_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words, reason = REFUSED[name]
    assert main([*SHORT, f"--trainer.callbacks+={name}", *words]) == 2
    assert reason in capfd.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("name", ["EMAWeightAveraging", "WeightAveraging"])
def test_the_weights_that_were_best_in_validation_are_those_that_are_tested(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config", DIGITS, "--trainer.max_epochs=1", "--trainer.limit_train_batches=40"]
    assert main([*words, f"--trainer.callbacks+={name}"]) == 0
    assert ", averaged weights" in capsys.readouterr().out
    (run,) = Path("runs/convnet_digits").iterdir()
    after_fit = scores(run)
    held = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    assert any(not held["state_dict"][k].equal(v) for k, v in held["current_model_state"].items())
    for command, metric in (("test", "test/loss"), ("validate", "val/loss")):
        assert main([command, "--ckpt_path", str(run)]) == 0
        assert ", averaged weights" in capsys.readouterr().out
        (evaluation,) = Path("runs/convnet_digits").glob(f"*_{command}")
        assert scores(evaluation)[metric] == pytest.approx(after_fit[metric], abs=1e-6)


def scores(run: Path) -> dict[str, float]:
    """The last value of each metric."""
    with (run / "metrics.csv").open() as lines:
        return {name: float(cell) for row in csv.DictReader(lines) for name, cell in row.items() if cell}


@pytest.mark.parametrize("name", ["BatchSizeFinder", "LearningRateFinder"])
def test_what_a_finder_has_found_is_in_the_configuration_that_repeats_the_run(leyden: Server, name: str) -> None:
    code, text = leyden.run(*FIT, f"--trainer.callbacks+={name}", *EXACT[name], "--name", "searched")
    assert code == 0, text
    config = yaml.safe_load((run_of("searched") / "config.yaml").read_text())
    optimizer = config["model"]["init_args"]["optimizer"]["init_args"]
    found = {"BatchSizeFinder": config["data"]["init_args"]["batch_size"], "LearningRateFinder": optimizer["lr"]}[name]
    printed = re.findall(r"batch size (\d+)\n|Learning rate set to (\S+)", text)[-1]
    assert str(found) in printed
    assert name not in str(config)
    code, text = leyden.run("fit", "--config", str(run_of("searched") / "config.yaml"), "--name", "repeated")
    assert code == 0, text
    assert result("repeated") == result("searched")
    assert weights_hash(run_of("repeated") / "checkpoints" / "best.ckpt")
