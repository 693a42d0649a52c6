"""What a run prints: scores, the next command, and no noise."""

import re
import shlex
import warnings
from pathlib import Path

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from leyden import PROJECT
from leyden.callbacks.epoch_lines import EpochLines
from leyden.cli.main import main

pytestmark = pytest.mark.slow

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
SHORT = ["fit", "--config", DIGITS, "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "2"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_scores_have_four_digits(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(SHORT) == 0
    assert main(["validate", "--ckpt_path", "best"]) == 0
    out = capfd.readouterr().out
    score = r"\d(\.0*\d{1,4})?"
    assert re.search(rf"^test  test/acc {score}, test/loss {score}$", out, re.MULTILINE)
    assert re.search(rf"^val   val/acc {score}, val/loss {score}$", out, re.MULTILINE)
    assert "DataLoader 0" not in out


def test_the_next_command_works_as_printed_for_a_name_with_spaces(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--name", "my run"]) == 0
    (line,) = [line for line in capfd.readouterr().out.splitlines() if line.startswith("next")]
    words = shlex.split(line.removeprefix("next  leyden "))
    assert Path(words[-1]).is_file()
    assert main(words) == 0


class Warns(Callback):
    """Warns of something of its own, in words much like Lightning's."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        warnings.warn("my directory is not empty, and this is deprecated", FutureWarning, stacklevel=1)


def test_a_resumed_run_has_a_quiet_console_but_for_the_warnings_of_ones_own_code(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(SHORT) == 0
    monkeypatch.setattr(EpochLines, "on_fit_start", Warns.on_fit_start)
    with warnings.catch_warnings(record=True) as caught:
        assert main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3", "--lr_scheduler=restart"]) == 0
    captured = capfd.readouterr()
    text = captured.out + captured.err + "".join(str(warning.message) for warning in caught)
    assert text.count("my directory is not empty") == 1
    assert text.count("deprecated") == 1
    for noise in ("litlogger", "Tip:", "exists and is not empty", "TPU", "Restoring"):
        assert noise not in text
