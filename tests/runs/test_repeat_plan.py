"""The command line of `leyden repeat`, read without torch."""

from pathlib import Path

import pytest
import yaml

from leyden import PROJECT
from leyden.errors import UserError
from leyden.runs.repeat_plan import Part, read_plan

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
ARGS = ["--config", DIGITS, "--seeds", "2", "--model.dropout", "0.1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_run_is_a_seed_or_a_seed_and_a_fold() -> None:
    assert read_plan(ARGS).parts == [Part(0, None), Part(1, None)]
    plan = read_plan([*ARGS, "--folds=3"])
    assert plan.parts == [Part(seed, fold) for seed in (0, 1) for fold in (0, 1, 2)]
    assert plan.parts[:3] == read_plan(["--config", DIGITS, "--folds", "3"]).parts
    root = Path("runs").absolute()
    assert plan.command_of(Part(1, 2)) == [
        "fit",
        f"--config={DIGITS}",
        "--model.dropout",
        "0.1",
        "--wandb.group=convnet_digits",
        "--seed_everything=1",
        "--data.folds=3",
        "--data.fold=2",
        "--name=convnet_digits/seed-1_fold-2",
        f"--trainer.default_root_dir={root}",
    ]


def test_the_folder_is_named_like_that_of_a_fit() -> None:
    overlay = str(PROJECT / "configs" / "with" / "bf16.yaml")
    assert read_plan(["--config", overlay, *ARGS]).folder == Path("runs/convnet_digits").absolute()
    assert read_plan([*ARGS, "--name", "a/b", "--trainer.default_root_dir", "out"]).folder == Path("out/a/b").absolute()
    Path("mine.yaml").write_text("name: other\ntrainer: {default_root_dir: there}\n")
    assert read_plan([*ARGS, "--config", "mine.yaml"]).folder == Path("there/other").absolute()


def test_a_group_of_the_user_is_kept() -> None:
    assert "--wandb.group=mine" in read_plan([*ARGS, "--wandb.group=mine"]).command
    Path("mine.yaml").write_text("wandb: {group: theirs}\n")
    command = read_plan([*ARGS, "--config", "mine.yaml", "--name", "b"]).command
    assert not any(arg.startswith("--wandb.group") for arg in command)


def a_run(name: str = "seed-1") -> None:
    run = Path("runs", "convnet_digits", name, "2026-01-01_00-00-00")
    run.mkdir(parents=True)
    (run / "config.yaml").touch()


def test_the_command_is_that_which_began_the_runs_however_its_options_are_written() -> None:
    first = read_plan([*ARGS, "--data.batch_size=8"])
    a_run()
    again = read_plan(["--data.batch_size", "8", "--model.dropout=0.1", "--seeds=5", "--config", DIGITS])
    assert again.command == first.command
    assert again.seeds == 5


def test_a_configuration_that_has_begun_no_run_is_forgotten() -> None:
    read_plan(ARGS)
    assert "--model.dropout=0.2" in read_plan([*ARGS, "--model.dropout=0.2"]).command


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ["--model.optimizer.lr", "0.1"],
            r"\(model.optimizer.lr was 0.02, now 0.1\): give these a folder",
        ),
        (["--folds", "3"], r"\(data.folds was None, now 3\)"),
        (["--config", "mine.yaml"], r"\(data.batch_size was 16, now 32\)"),
        (["--trainer.callbacks+=Timer"], r"\(trainer.callbacks\+ was None, now Timer\)"),
    ],
)
def test_a_folder_with_runs_of_another_configuration_is_refused(change: list[str], message: str) -> None:
    Path("mine.yaml").write_text("data: {init_args: {batch_size: 32}}\n")
    read_plan(ARGS)
    before = Path("runs/convnet_digits/repeat.yaml").read_text()
    a_run("seed-0")
    with pytest.raises(UserError, match=f"^runs/convnet_digits has runs of another configuration {message}"):
        read_plan([*ARGS, *change])
    assert Path("runs/convnet_digits/repeat.yaml").read_text() == before
    assert yaml.safe_load(before)["options"]["model.optimizer.lr"] == 0.02


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give --seeds N for the seeds 0 to N-1, --folds K for cross-validation, or both"),
        (["--seeds", "0"], "--seeds must be 1 or more, but is 0"),
        (["--seeds", "few"], "argument --seeds: invalid int value: 'few'"),
        (["--folds", "1"], "--folds must be 2 or more, but is 1"),
        (["--seeds=2", "--jobs=-1"], "--jobs must be 0 or more, but is -1"),
        (["--seeds=2", "--seed_everything=3"], "takes no --seed_everything: --seeds N takes the seeds 0 to N-1"),
        (["--seeds=2", "--ckpt_path", "last"], "takes no --ckpt_path: the same command resumes what was stopped"),
        (["--folds=2", "--data.fold=1"], "takes no --data.fold: --folds sets it for each run"),
        (["--seeds=2", "--name=../a"], "is no folder in runs/"),
        (["--seeds=2", "--config=no.yaml"], r"cannot read no\.yaml \(No such file or directory\)"),
        (["--seeds=2", "--config=list.yaml"], r"list\.yaml is no configuration"),
        (["--seeds=2", "--config=twice.yaml"], r"twice\.yaml: duplicate key `a`"),
        (["--seeds=2", "stray"], "stray is no option"),
        (["--seeds=2", "--wandb.api_key=0123"], "looks like a secret"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(args: list[str], message: str) -> None:
    Path("list.yaml").write_text("[1]\n")
    Path("twice.yaml").write_text("a: 1\na: 2\n")
    with pytest.raises(UserError, match=message):
        read_plan(["--config", DIGITS, *args])
    assert not Path("runs").exists()


def test_runs_without_a_configuration_need_a_name() -> None:
    with pytest.raises(UserError, match="give the experiment by --config, or a --name"):
        read_plan(["--seeds=2", "--model=ConvNet"])
    assert read_plan(["--seeds=2", "--model=ConvNet", "--name=a"]).name == "a"
