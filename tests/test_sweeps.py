"""Sweep files become commands by wandb's own agent, each of which runs; Optuna reads the same search space."""

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import optuna
import pytest
import wandb.wandb_agent
import yaml

from leyden import PROJECT
from leyden.cli.main import main

SWEEPS = sorted((PROJECT / "configs" / "sweeps").glob("*.yaml"))
ONE_STEP = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1"]


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mnist_root: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(PROJECT / "configs")
    monkeypatch.setenv("LEYDEN_DATA", str(mnist_root))


def points(parameters: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """All points of a grid; of a space with ranges, its corners."""
    sides = [space.get("values") or [space["min"], space["max"]] for space in parameters.values()]
    return [dict(zip(parameters, point, strict=True)) for point in itertools.product(*sides)]


def commands(sweep: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What wandb's agent starts for each point, in the place of starting it."""
    started: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **_: object) -> None:
            started.append(command)

    monkeypatch.setattr(wandb.wandb_agent, "AgentProcess", Process)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "set by the agent, and put back after the test")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "likewise")
    agent = wandb.wandb_agent.Agent.__new__(wandb.wandb_agent.Agent)
    vars(agent).update(_in_jupyter=False, _function=None, _forward_signals=False, _run_processes={})
    agent._sweep_command = sweep["command"]
    for number, point in enumerate(points(sweep["parameters"])):
        args = {name: {"value": value} for name, value in point.items()}
        agent._command_run({"run_id": str(number), "program": sweep["program"], "args": args})
    return started


def words_of(command: list[str]) -> list[str]:
    assert command[:3] == ["/usr/bin/env", "leyden", "fit"]
    return command[2:]


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_command_of_a_sweep_means_what_the_sweep_says(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = yaml.safe_load(file.read_text())
    found = commands(sweep, monkeypatch)
    assert len(found) == len(points(sweep["parameters"]))
    for command, point in zip(found, points(sweep["parameters"]), strict=True):
        with pytest.raises(SystemExit, match="0"):
            main([*words_of(command), "--print_config"])
        config = yaml.safe_load(capsys.readouterr().out)
        optimizer = config["model"]["init_args"]["optimizer"]
        asked = {"model.optimizer": optimizer["class_path"], "model.optimizer.lr": optimizer["init_args"]["lr"]}
        asked |= {f"data.{name}": value for name, value in config["data"]["init_args"].items()}
        asked |= {f"model.{name}": value for name, value in config["model"]["init_args"].items() if name != "optimizer"}
        assert {name: asked[name] for name in point} == point
        assert config["test_after_fit"] is False


@pytest.mark.slow
@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_command_of_a_sweep_runs(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sweep = yaml.safe_load(file.read_text())
    small_data = ["--data.val_size", "100"]
    found = commands(sweep, monkeypatch)
    for command in found:
        assert main([*words_of(command), *ONE_STEP, *small_data]) == 0
    assert len(list(tmp_path.glob("runs/*/*/metrics.csv"))) == len(found)


@pytest.fixture
def optuna_search() -> Any:
    """The example, as a module."""
    spec = importlib.util.spec_from_file_location("optuna_search", PROJECT / "configs/sweeps/optuna_search.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Hopeless(optuna.pruners.BasePruner):
    """Gives up at once."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return True


def test_a_hopeless_trial_ends_after_its_first_epoch_and_keeps_its_files(
    optuna_search: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: Hopeless())
    sweep = yaml.safe_load((PROJECT / "configs/sweeps/convnet_digits.yaml").read_text())
    words = [*ONE_STEP, "--trainer.max_epochs", "5"]
    (trial,) = optuna_search.search(sweep, f"sqlite:///{tmp_path}/search.db", "search", 1, words).trials
    assert trial.state == optuna.trial.TrialState.PRUNED
    assert list(trial.intermediate_values) == [0]
    assert len(list(tmp_path.glob("runs/*/*/curves.png"))) == 1


def test_optuna_searches_the_same_space_and_goes_on_where_it_was(optuna_search: Any, tmp_path: Path) -> None:
    sweep = yaml.safe_load((PROJECT / "configs/sweeps/convnet_digits.yaml").read_text())
    arguments = (sweep, f"sqlite:///{tmp_path}/search.db", "search")
    assert len(optuna_search.search(*arguments, 1, ONE_STEP).trials) == 1
    study = optuna_search.search(*arguments, 2, ONE_STEP)
    assert len(study.trials) == 2
    assert len(list(tmp_path.glob("runs/convnet_digits/*/metrics.csv"))) == 2
    for trial in study.trials:
        assert set(trial.params) == set(sweep["parameters"])
        assert 0.001 <= trial.params["model.optimizer.lr"] <= 0.1
        assert trial.value == min(trial.intermediate_values.values())
