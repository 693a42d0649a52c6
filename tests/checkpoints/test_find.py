"""The checkpoint that `--ckpt_path` names."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from leyden.checkpoints.find import find_checkpoint
from leyden.errors import UserError
from leyden.runs.directory import LAST

from ..processes import Server, run_of
from ..runs.test_directory import checkpoint
from .conftest import DAMAGES, truncated
from .test_kills import FIT


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
    assert "skipped, as they have no checkpoint: 2026-01-03_00-00-00 2026-01-02_00-00-00" in caplog.text


def test_an_evaluation_in_the_same_second_is_no_run_either(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, "a", "2026-01-01_00-00-00", "last")
    checkpoint(tmp_path, "a", "2026-01-02_00-00-00_test-2", "last")
    assert find_checkpoint("last", tmp_path, None, "best") == file


def test_a_name_may_be_a_path(tmp_path: Path) -> None:
    older = checkpoint(tmp_path, "group/a", "2026-01-01_00-00-00", "last")
    newer = checkpoint(tmp_path, "group/b", "2026-01-02_00-00-00", "last")
    assert find_checkpoint("last", tmp_path, None, "best") == newer
    assert find_checkpoint("last", tmp_path, "group/a", "best") == older


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


def test_a_run_directory_means_its_default_checkpoint_and_a_file_itself(tmp_path: Path) -> None:
    file = checkpoint(tmp_path, "a", "2026-01-01_00-00-00", "best")
    assert find_checkpoint(str(file.parents[1]), tmp_path, None, "best") == file
    assert find_checkpoint(str(file), tmp_path, None, "last") == file


@pytest.mark.parametrize("wanted", ["best", "last", "missing.ckpt", "."])
def test_what_is_not_there_is_refused(wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"there is no run in|no checkpoint (at|to go on from)"):
        find_checkpoint(wanted, tmp_path, None, "best")


@pytest.mark.parametrize(
    "damage", [DAMAGES[0], *(pytest.param(damage, marks=pytest.mark.slow) for damage in DAMAGES[1:])]
)
def test_last_passes_over_a_damaged_file_and_says_so(leyden: Server, damage: Callable[[Path], None]) -> None:
    assert leyden.run(*FIT, "--name", "whole")[0] == 0
    shutil.copytree("runs/whole", "runs/damaged")
    run = run_of("damaged")
    damage(run / "checkpoints" / LAST)
    code, text = leyden.run("fit", "--ckpt_path", str(run), "--name", "damaged", "--trainer.max_epochs", "3")
    # the copy's configuration has the name of the first one
    assert "skipped" in text
    assert str(run / "checkpoints" / LAST) in text
    assert f"from  {run}/checkpoints/previous.ckpt, step 78" in text
    assert code == 0, text


def test_where_no_file_is_whole_nothing_is_trained(leyden: Server, run: Path) -> None:
    for file in run.glob("checkpoints/*.ckpt"):
        truncated(file)
    code, text = leyden.run("fit", "--ckpt_path", "last")
    assert code == 2
    assert "error: no checkpoint to go on from in runs/run/" in text


def test_a_resume_that_finds_nothing_is_an_error(leyden: Server) -> None:
    code, text = leyden.run(*FIT, "--ckpt_path", "last")
    assert code == 2
    assert "error: there is no run in runs/convnet_digits" in text
    assert not list(Path().glob("runs/*"))


def test_last_passes_over_a_run_that_was_killed_before_its_first_checkpoint(leyden: Server, run: Path) -> None:
    newer = run.with_name("9999-01-01_00-00-00")
    newer.mkdir()
    shutil.copy(run / "config.yaml", newer)
    code, text = leyden.run("fit", "--ckpt_path", "last", "--trainer.max_epochs=2")
    assert code == 0, text
    assert f"skipped, as they have no checkpoint: {newer.name}" in text
    assert f"from  {run}/checkpoints/last.ckpt" in text
    code, text = leyden.run("fit", "--ckpt_path", str(newer))
    assert code == 2
    assert f"no checkpoint to go on from in {newer}: it ended before the first was saved" in text
