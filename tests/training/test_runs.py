"""Run directories, and the checkpoint that a word on the command line means."""

from pathlib import Path

import pytest
import torch

from leyden.errors import UserError
from leyden.training.checkpoint_io import read_checkpoint
from leyden.training.runs import find_checkpoint, leave_run, make_run_directory


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
