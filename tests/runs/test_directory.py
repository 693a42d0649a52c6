"""Run directories: made once, locked while in use, removed if empty."""

import errno
import fcntl
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

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


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "."])
def test_a_name_outside_of_the_runs_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is no folder in runs/"):
        check_name(name)


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
