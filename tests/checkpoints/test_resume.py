"""Which runs may be resumed, with which changes, and what a finished run is told to raise."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from leyden.checkpoints.io import read_checkpoint
from leyden.checkpoints.resume import check_resumable, differences, limits_to_raise
from leyden.errors import UserError
from leyden.runs.directory import LAST

from ..processes import Server, result, wait_for
from .test_kills import FIT

TIMER = {"class_path": "lightning.pytorch.callbacks.Timer", "init_args": {"duration": "00:00:00:01"}}
STOPPING = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {}}
LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "epochs": ({"max_epochs": 3, "max_time": "00:01:00:00", "callbacks": [TIMER]}, "--trainer.max_epochs"),
    "steps": ({"max_epochs": 10, "max_steps": 20}, "--trainer.max_steps"),
    "steps alone": ({"max_epochs": -1, "max_steps": 20}, "--trainer.max_steps"),
    "time": ({"max_epochs": 10, "max_steps": -1, "max_time": "00:00:00:01"}, "--trainer.max_time"),
    "a Timer": ({"max_epochs": 10, "callbacks": [TIMER]}, "the duration of its Timer"),
    "one callback": ({"max_epochs": 10, "callbacks": TIMER}, "the duration of its Timer"),
    "EarlyStopping": ({"max_epochs": 10, "callbacks": [STOPPING]}, "the patience of its EarlyStopping"),
    "nothing known": ({"max_epochs": 10, "callbacks": None}, "--trainer.max_epochs"),
}


@pytest.mark.parametrize("ended_by", LIMITS)
def test_what_ended_a_run_is_what_it_is_told_to_raise(ended_by: str) -> None:
    trainer, expected = LIMITS[ended_by]
    assert limits_to_raise({"trainer": trainer}, epoch=3, step=20).startswith(expected)
    finished = {
        "optimizer_states": [],
        "finished": True,
        "epoch": 3,
        "global_step": 20,
        "config": {"trainer": trainer},
    }
    with pytest.raises(UserError, match=f"raise {expected}"):
        check_resumable(finished, {})


def test_a_run_that_a_callback_has_ended_goes_on_with_other_callbacks() -> None:
    old, new = ({"trainer": {"max_epochs": 10, "callbacks": callbacks}} for callbacks in ([TIMER], []))
    finished = {"optimizer_states": [], "finished": True, "epoch": 3, "global_step": 20, "config": old}
    check_resumable(finished, {}, new)


def test_configurations_are_compared_option_by_option() -> None:
    old = {"model": {"class_path": "A", "init_args": {"size": 1, "optimizer": {"init_args": {"lr": 0.1}}}}}
    new = {"model": {"class_path": "A", "init_args": {"size": 2, "optimizer": {"init_args": {"lr": 0.1, "eps": 1}}}}}
    assert differences(old, new) == {"model.size": (1, 2), "model.optimizer.eps": (None, 1)}


def test_a_finished_run_says_that_it_is(leyden: Server, run: Path) -> None:
    code, text = leyden.run("fit", "--ckpt_path", "last")
    assert code == 2
    assert "error: this run is finished, at epoch 1 and step 39" in text


def test_what_differs_from_the_checkpoint_is_printed_and_a_new_rate_is_used(leyden: Server, run: Path) -> None:
    flags = ["--trainer.max_epochs=2", "--model.optimizer.lr=0.005", "--model.optimizer.momentum=0.5"]
    code, text = leyden.run("fit", "--ckpt_path", "last", *flags)
    assert code == 0, text
    lines = [line.strip() for line in text.splitlines() if " -> " in line]
    assert sorted(lines) == [
        "model.optimizer.lr: 0.02 -> 0.005",
        "model.optimizer.momentum: 0.9 -> 0.5",
        "trainer.max_epochs: 1 -> 2",
    ]
    (group,) = read_checkpoint(run / "checkpoints" / LAST)["optimizer_states"][0]["param_groups"]
    assert group["momentum"] == 0.5
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.005)  # what the schedule makes of the new rate
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    optimizer.step()
    schedule.step()
    schedule.step()
    assert group["lr"] == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--model.optimizer=torch.optim.Adam", "--trainer.max_epochs=2"], "model.optimizer.class_path was"),
        (["--model=MLP", "--trainer.max_epochs=2"], "model.class_path was"),
        (["--model.lr_scheduler.T_max=9", "--trainer.max_epochs=2"], "model.lr_scheduler.T_max was 30, now 9"),
        (["--data.size=20", "--trainer.max_epochs=2"], "weights do not fit ConvNet"),
    ],
)
def test_what_cannot_go_on_is_refused(leyden: Server, run: Path, flags: list[str], reason: str) -> None:
    code, text = leyden.run("fit", "--ckpt_path", "last", *flags)
    assert code == 2, text
    assert reason in text


def test_in_the_middle_of_an_epoch_the_batches_cannot_change(leyden: Server) -> None:
    process = leyden.start(*FIT, "--name", "half", at=("on_train_batch_end", 20, 15))
    assert process.wait() == 143
    for flags, change in (
        ("--data.batch_size=16", "batch_size was 32, now 16"),
        ("--data.stratify=false", "stratify was True, now"),
        ("--data.folds=3 --data.fold=0", "folds was None, now 3"),
    ):
        code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "half", *flags.split())
        assert code == 2
        assert f"error: data.{change}" in text
        assert "it cannot change in the middle of an epoch" in text


def test_another_file_of_a_run_begins_a_new_one_and_leaves_the_first_alone(leyden: Server, run: Path) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    best = str(run / "checkpoints" / "best.ckpt")
    code, text = leyden.run("fit", "--ckpt_path", best, "--trainer.max_epochs=2")
    assert code == 0, text
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert len(list(Path("runs/run").iterdir())) == 2


@pytest.mark.slow
def test_a_run_killed_in_the_test_after_fit_is_tested_when_it_is_started_again(leyden: Server) -> None:
    again = [*FIT, "--trainer.max_epochs=1", "--test_after_fit=true"]
    assert leyden.run(*again, "--name", "whole")[0] == 0
    assert leyden.run(*again, "--name", "killed", at=("setup", 2, signal.SIGKILL))[0] == -9  # the test's
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed", "--test_after_fit=false")
    assert code == 2
    assert "error: this run is finished, at epoch 1 and step 39" in text
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 0, text
    assert "its training is finished, its test is not" in text
    assert result("killed") == result("whole")
    assert "test/acc" in result("whole")[1]
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 2
    assert "error: this run is finished, at epoch 1 and step 39" in text


@pytest.mark.slow
def test_a_run_that_is_being_trained_is_not_resumed_by_another_process(leyden: Server) -> None:
    first = leyden.start(*FIT, "--trainer.max_epochs=100", "--name", "run")
    run = wait_for("runs/run/*/checkpoints/last.ckpt").parents[1]
    wait_for("runs/run/*/metrics.csv")
    first.kill(signal.SIGSTOP)
    files = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    code, text = leyden.run("fit", "--ckpt_path", "last", "--trainer.max_epochs=200")
    assert code == 2, text
    assert f"is being trained by process {first.pid} on " in text
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == files
    first.kill()
    first.kill(signal.SIGCONT)
    assert first.wait() == -9
    code, text = leyden.run("fit", "--ckpt_path", "last", at=("on_train_batch_end", 2, signal.SIGTERM))
    assert code == 143, text
