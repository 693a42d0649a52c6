"""Commands that must be refused, for the tests of what is checked before a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from leyden import PROJECT
from leyden.cli.main import main

CONFIGS = PROJECT / "configs"
DIGITS = str(CONFIGS / "convnet_digits.yaml")


def files() -> list[Path]:
    return [path for path in Path("runs").rglob("*") if path.is_file()]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command that must be refused without one training step, and returns what it says."""

    def step(*_: Any) -> Tensor:
        raise AssertionError("a step was trained")

    monkeypatch.setattr("leyden.models.tasks.Task.training_step", step)

    def run(*words: str) -> str:
        assert main(list(words)) == 2
        line = capfd.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("error: ")
        assert files() == []
        return line

    return run
