"""Run directories, and the checkpoint that a word on the command line means."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from leyden.checkpoints.find import find_checkpoint
from leyden.checkpoints.io import read_checkpoint
from leyden.errors import UserError
from leyden.runs.directory import (
    check_name,
    leave_run,
    lock_run,
    make_run_directory,
)


def checkpoint(root: Path, name: str, time: str, which: str) -> Path:
    file = root / name / time / "checkpoints" / f"{which}.ckpt"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {}, "global_step": 1}, file)
    (file.parents[1] / "config.yaml").touch()
    return file


def test_two_runs_never_share_a_directory(tmp_path: Path) -> None:
    made = {make_run_directory(tmp_path / "x") for _ in range(20)}
    assert len(made) == 20
    assert all(directory.is_dir() for directory in made)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write the run to .*file"):
        make_run_directory(tmp_path / "file" / "x")


def test_words_mean_the_newest_run_of_all_or_of_one_experiment(tmp_path: Path) -> None:
    older = checkpoint(tmp_path, "b", "2026-01-01_00-00-00", "last")
    newer = checkpoint(tmp_path, "a", "2026-01-02_00-00-00", "last")
    checkpoint(tmp_path, "c", "2026-01-03_00-00-00_test", "last")
    assert find_checkpoint("last", tmp_path, None, "best") == newer
    assert find_checkpoint("last", tmp_path, "b", "best") == older


def test_last_and_best_pass_over_runs_without_a_checkpoint_and_say_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = checkpoint(tmp_path, "a", "2026-01-01_00-00-00", "best")
    for name in ("2026-01-02_00-00-00", "2026-01-03_00-00-00"):  # as fast_dev_run leaves it, and a crash
        empty = tmp_path / "a" / name
        empty.mkdir()
        (empty / "config.yaml").touch()
    assert find_checkpoint("best", tmp_path, None, "last") == file
    assert find_checkpoint("last", tmp_path, None, "best") == file
    assert "passed over, as no checkpoint was saved: 2026-01-03_00-00-00 2026-01-02_00-00-00" in caplog.text


def test_an_evaluation_in_the_same_second_is_no_run_either(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, "a", "2026-01-01_00-00-00", "last")
    checkpoint(tmp_path, "a", "2026-01-02_00-00-00_test-2", "last")
    assert find_checkpoint("last", tmp_path, None, "best") == file


def test_a_name_may_be_a_path(tmp_path: Path) -> None:
    older = checkpoint(tmp_path, "group/a", "2026-01-01_00-00-00", "last")
    newer = checkpoint(tmp_path, "group/b", "2026-01-02_00-00-00", "last")
    assert find_checkpoint("last", tmp_path, None, "best") == newer
    assert find_checkpoint("last", tmp_path, "group/a", "best") == older


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "."])
def test_a_name_outside_of_the_runs_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is no folder in runs/"):
        check_name(name)


def test_best_is_the_one_that_the_newest_checkpoint_names(tmp_path: Path) -> None:
    last = checkpoint(tmp_path, "a", "2026-01-01_00-00-00", "last")
    best = tmp_path / "out" / "epoch=1-step=3.ckpt"
    states = {"LRFinder": 1, "ModelCheckpoint{'monitor': 'val/acc'}": {"best_model_path": str(best)}}
    torch.save({"state_dict": {}, "global_step": 1, "callbacks": states}, last)
    with pytest.raises(UserError, match="no checkpoint at"):
        find_checkpoint("best", tmp_path, None, "best")
    best.parent.mkdir()
    shutil.copy(last, best)
    assert find_checkpoint("best", tmp_path, None, "best") == best
    moved = last.with_name(best.name)  # it was in the run, and the run was moved
    shutil.copy(last, moved)
    assert find_checkpoint(str(last.parents[1]), tmp_path, None, "best") == moved


def hold(directory: Path, answer: Connection) -> None:
    """Holds a run, and has a child, as a worker of a DataLoader is one."""
    lock_run(directory)
    child = os.fork()
    if child:
        answer.send(child)
    time.sleep(60)


def test_a_run_is_held_by_one_process_and_by_none_after_its_death(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    answer, question = fork.Pipe()
    holder = fork.Process(target=hold, args=(tmp_path, question))
    holder.start()
    child = answer.recv()
    with pytest.raises(UserError, match=rf"is being trained by process {holder.pid} on "):
        lock_run(tmp_path)
    leave_run(refused=False)
    holder.kill()
    holder.join()
    lock_run(tmp_path)  # though its child is alive
    leave_run(refused=False)
    os.kill(child, signal.SIGKILL)


def test_where_the_file_system_has_no_locks_the_run_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    lock_run(tmp_path)
    leave_run(refused=False)
    assert "cannot be locked (No locks available)" in caplog.text


def test_a_run_directory_means_its_default_checkpoint_and_a_file_itself(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, "a", "2026-01-01_00-00-00", "best")
    assert find_checkpoint(str(file.parents[1]), tmp_path, None, "best") == file
    assert find_checkpoint(str(file), tmp_path, None, "last") == file


@pytest.mark.parametrize("wanted", ["best", "last", "missing.ckpt", "."])
def test_what_is_not_there_is_refused(wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"there is no run in|no checkpoint (at|to go on from)"):
        find_checkpoint(wanted, tmp_path, None, "best")


class Evil:
    """Runs code when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.canary,)


def test_no_code_in_a_checkpoint_runs(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "config": Evil(tmp_path / "canary")}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"evil\.ckpt"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [[1, 2], {"weights": {}}])
def test_a_file_that_is_no_lightning_checkpoint_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "some.ckpt")
    with pytest.raises(UserError, match="state_dict"):
        read_checkpoint(tmp_path / "some.ckpt")


@pytest.mark.parametrize("file", [None, "config.yaml"])
def test_a_run_that_was_refused_takes_away_only_what_it_made(tmp_path: Path, file: str | None) -> None:
    (tmp_path / "mine").mkdir()
    for parent in (tmp_path / "runs" / "x", tmp_path / "mine" / "x"):
        run = make_run_directory(parent)
        if file:
            (run / file).touch()
        leave_run(refused=True)
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]  # the empty folder that was there before


@pytest.mark.parametrize(("file", "refused"), [("config.yaml", False), ("metrics.csv", True)])
def test_a_run_with_something_in_it_stays(tmp_path: Path, file: str, refused: bool) -> None:
    (make_run_directory(tmp_path / "runs" / "x") / file).touch()
    leave_run(refused)
    assert len(list(tmp_path.glob(f"runs/x/*/{file}"))) == 1


def test_a_text_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "some.ckpt").write_text("epoch,step\n0,1\n")
    with pytest.raises(UserError, match=r"some\.ckpt is damaged or is no checkpoint"):
        read_checkpoint(tmp_path / "some.ckpt")
