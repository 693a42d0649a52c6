"""When `last.ckpt` is saved, and in which order with the rows of `metrics.csv`."""

import shutil
import signal
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from leyden.checkpoints.io import read_checkpoint
from leyden.checkpoints.last_checkpoint import LastCheckpoint
from leyden.cli.main import main
from leyden.runs.directory import LAST

from ..conftest import SystemCalls
from ..processes import Server, result
from .test_kills import FIT


def test_a_run_that_was_moved_keeps_its_best_checkpoint(leyden: Server, run: Path) -> None:
    moved = Path(shutil.move(run, "elsewhere"))
    # so slow that no later epoch is better
    code, text = leyden.run("fit", "--ckpt_path", str(moved), "--trainer.max_epochs=2", "--model.optimizer.lr=0.02")
    assert code == 0, text
    assert [path.name for path in Path().glob("runs/run/*")] == []
    states = read_checkpoint(moved / "checkpoints" / LAST)["callbacks"]
    (best,) = [state for key, state in states.items() if key.startswith("ModelCheckpoint")]
    assert best["best_model_path"] == str(moved.absolute() / "checkpoints" / "best.ckpt")
    assert float(best["best_model_score"]) > 0


@pytest.mark.parametrize(
    ("flags", "saved"),
    [
        (["--checkpoint.min_interval=0:00:00"], [1, 39, 78, 117]),
        (["--checkpoint.min_interval=1:00:00"], [1, 117]),
        (["--checkpoint.min_interval=1:00:00", "--checkpoint.every_n_train_steps=50"], [1, 51, 101, 117]),
        (["--checkpoint.min_interval=0:00:00", "--trainer.max_steps=100"], [1, 40, 79, 100]),
        (["--checkpoint.min_interval=1:00:00", "--trainer.max_steps=100"], [1, 100]),
    ],
)
def test_short_epochs_are_saved_at_most_once_an_interval_and_the_first_step_and_the_end_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], saved: list[int]
) -> None:
    steps = []

    def note(callback: LastCheckpoint, trainer: Trainer) -> None:
        steps.append(trainer.global_step)
        original(callback, trainer)

    original = LastCheckpoint._save
    monkeypatch.setattr(LastCheckpoint, "_save", note)
    monkeypatch.chdir(tmp_path)
    assert main([*FIT, *flags]) == 0
    assert steps == saved


@pytest.mark.slow
@pytest.mark.parametrize(("interval", "step"), [("0:00:00", 78), ("1:00:00", 1)])
def test_a_kill_changes_nothing_however_long_ago_the_last_save_was(leyden: Server, interval: str, step: int) -> None:
    fit = [*FIT, f"--checkpoint.min_interval={interval}"]
    assert leyden.run(*FIT, "--name", "whole")[0] == 0
    assert leyden.run(*fit, "--name", "killed", at=("on_train_batch_end", 100, signal.SIGKILL))[0] == -9
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 0, text
    assert f"checkpoints/last.ckpt, step {step}" in text
    assert result("killed") == result("whole")


def test_a_checkpoint_is_saved_after_the_rows_before_it_are_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system_calls: SystemCalls
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*FIT, "--trainer.max_epochs=2"]) == 0
    calls = [call for call in system_calls.made if "last.ckpt" in call or call == "fsync metrics.csv"]
    assert calls[-4:] == [
        "fsync metrics.csv",
        "fsync .last.ckpt.part",
        "replace last.ckpt previous.ckpt",
        "replace .last.ckpt.part last.ckpt",
    ]
