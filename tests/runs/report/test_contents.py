"""What is read from a run's directory."""

import json
import shlex
from pathlib import Path

import pytest

from leyden.errors import UserError
from leyden.runs.report.contents import commands, read_contents, read_curves, read_environment
from leyden.runs.report.pictures import PictureReader
from leyden.runs.stored_config import read_config

from .conftest import make_run


def test_curves_of_the_splits_are_by_epoch_and_others_by_step(tmp_path: Path) -> None:
    curves = read_curves(make_run(tmp_path / "a" / "1") / "metrics.csv")
    assert curves.by_epoch == {
        "train/loss": ([0, 1, 2], [2.25, 1.5, 1.25]),
        "val/acc": ([0, 1, 2], [0.25, 0.75, 0.7]),
        "val/loss": ([0, 1, 2], [2.0312345678, 1.0987654321, 1.5]),
    }
    assert curves.by_step == {"lr": ([4, 14], [0.1, 0.05]), "train/loss_step": ([4, 14], [2.5, 1.75])}


def test_what_lies_beyond_the_limit_of_the_table_is_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a" / "1")
    contents = read_contents(run, read_config(run), PictureReader(), rows=2)
    assert list(contents.values) == [0, 1]
    assert contents.left_out == 1


def test_a_value_that_equals_its_default_is_not_chosen_however_it_is_written(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a" / "1")
    options = {option.name: option for option in read_contents(run, read_config(run), PictureReader()).options}
    assert (options["model.optimizer.momentum"].value, options["model.optimizer.momentum"].default) == ("0.0", "0")
    assert not options["model.optimizer.momentum"].is_chosen
    assert options["seed_everything"].is_chosen  # 7, and 0 in configs/defaults.yaml
    assert options["model.dropout"].is_chosen


def test_the_environment_is_what_the_directory_records(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a" / "2026-11-22_04-49-28", trainer={"max_epochs": 3, "precision": "bf16-mixed"})
    found, has_packages = read_environment(run, read_config(run))
    assert not has_packages
    assert found["started"] == "2026-11-22 04:49:28"
    assert found["precision"] == "bf16-mixed"
    assert found["seed"] == "7"
    assert found["checkpoints/best.ckpt"] == "0 kB"
    (run / "launch.json").write_text(json.dumps({"launches": ["slurm 17"], "command": ["fit"]}))
    wandb = run / "wandb" / "offline-run-1" / "files"
    wandb.mkdir(parents=True)
    (wandb / "requirements.txt").write_text("torch==2.14.1\nrich==15\nnot a version\n")
    found, has_packages = read_environment(run, read_config(run))
    assert has_packages
    assert (found["launched by"], found["torch"]) == ("slurm 17", "2.14.1")
    assert "rich" not in found


def test_commands_name_the_run_as_the_user_did_and_can_be_pasted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a; rm b" / "1")
    (run / "launch.json").write_text(json.dumps({"launches": [], "command": ["fit", "--name", "two words"]}))
    words = [shlex.split(command) for command in commands(run).values()]
    assert words == [
        ["leyden", "fit", "--config", str(run / "config.yaml")],
        ["leyden", "fit", "--name", "two words"],
        ["leyden", "test", "--ckpt_path", str(run / "checkpoints" / "best.ckpt")],
        ["leyden", "report", str(run)],
    ]


def test_a_secret_in_the_recorded_command_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a" / "1")
    (run / "launch.json").write_text(json.dumps({"command": ["fit", "--wandb.api_key", "sesame"]}))
    with pytest.raises(UserError, match="contains what looks like a") as error:
        commands(run)
    assert "sesame" not in str(error.value)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"launches": []}', '{"launches": 1, "command": 2}'])
def test_a_broken_launch_is_as_none(content: str, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a" / "1")
    (run / "launch.json").write_text(content)
    assert len(commands(run)) == 3
    assert "launched by" not in read_environment(run, read_config(run))[0]
