"""What a run prints: a bar on a terminal, a line per epoch elsewhere, and nothing that does not help."""

import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities.model_summary import summarize
from torch import Tensor, nn

from leyden import PROJECT
from leyden.callbacks.epoch_lines import EpochLines
from leyden.callbacks.layer_summary import LayerSummary
from leyden.callbacks.progress_bar import RunProgressBar
from leyden.cli.main import main

pytestmark = pytest.mark.slow

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
SHORT = ["fit", "--config", DIGITS, "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "2"]
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("progress_bar", "epoch_lines"):
        monkeypatch.setattr(f"leyden.callbacks.{module}.draws_bars", lambda: True)


class Logging(BoringModel):
    """A foreign module that logs one constant per epoch, and a validation score that changes."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("train_loss", 0.5, on_epoch=True)
        loss: Tensor = self.layer(batch).sum() * 0 + 4
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", 1.0 + self.current_epoch)


def test_a_file_gets_one_line_per_epoch_with_losses_scores_rate_and_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(SHORT) == 0
    out = capfd.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("epoch")]
    number = r"[\d.e-]+"
    scores = "  ".join(f"{name} {number}" for name in ("train/loss", "train/acc", "val/loss", "val/acc", "lr"))
    assert len(lines) == 2
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(rf"epoch {epoch}/2  {scores}  \d+\.\d s", line)
    assert "━" not in out  # no bar


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_a_bar_that_counts_epochs_from_one_and_no_lines(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(SHORT) == 0
    out = capfd.readouterr().out
    assert "Epoch 2/2" in out
    assert "━" in out
    assert "epoch 1/2" not in out


def test_without_progress_bar_there_are_no_lines_either(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--trainer.enable_progress_bar", "false"]) == 0
    assert "epoch 1/2" not in capfd.readouterr().out


def test_a_line_shows_what_its_own_epoch_has_logged(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    limits: dict[str, Any] = {"limit_train_batches": 2, "limit_val_batches": 1, "default_root_dir": tmp_path}
    trainer = Trainer(max_epochs=10, check_val_every_n_epoch=2, callbacks=[EpochLines()], **limits, **QUIET)
    trainer.fit(Logging())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.partition("/")[0] for line in lines] == [f"epoch {epoch:2}" for epoch in range(1, 11)]
    for epoch, line in enumerate(lines, 1):
        assert ("val_loss" in line) == (epoch % 2 == 0)
        assert "train_loss_epoch 0.5" in line


def test_the_line_of_an_epoch_is_printed_though_the_next_one_fails(capsys: pytest.CaptureFixture[str]) -> None:
    class Fails(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 1:
                raise RuntimeError

    trainer = Trainer(max_epochs=3, limit_train_batches=2, callbacks=[Fails(), EpochLines()], **QUIET)
    with pytest.raises(RuntimeError):
        trainer.fit(Logging())
    assert capsys.readouterr().out.count("epoch 1/3") == 1


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("batches", [1, 4])
def test_the_loss_of_the_bar_is_that_of_the_batch_however_many_are_accumulated(
    batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    get_metrics = RunProgressBar.get_metrics

    def remember(bar: RunProgressBar, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        shown = get_metrics(bar, trainer, pl_module)
        losses.append(shown.get("loss"))
        return shown

    monkeypatch.setattr(RunProgressBar, "get_metrics", remember)
    limits: dict[str, Any] = {"max_epochs": 1, "limit_train_batches": 4, "limit_val_batches": 0}
    Trainer(accumulate_grad_batches=batches, callbacks=[RunProgressBar()], **limits, **QUIET).fit(Logging())
    assert set(losses) == {4.0}


def deep_model() -> LightningModule:
    """Layers with names and types so long that no row of all columns fits 80 characters."""
    model = BoringModel()
    names = [f"a_rather_long_name_of_a_layer_number_{i}_and_some_more_of_it_to_go_beyond_the_line" for i in range(3)]
    for name in names:
        model.add_module(name, nn.TransformerEncoderLayer(32, 1, batch_first=True))
    model.example_input_array = torch.zeros(2, 32)
    return model


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_summary_fits_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    trainer = Trainer(callbacks=[LayerSummary(max_depth=2)], **QUIET | {"enable_model_summary": True})
    with caplog.at_level("INFO"):
        trainer.callbacks[0].on_fit_start(trainer, deep_model())  # type: ignore[attr-defined]
    text = caplog.messages[-1]
    assert max(map(len, text.splitlines())) <= columns
    assert text.count("TransformerEncoderLayer") == 3
    total = summarize(deep_model()).total_parameters
    assert f"{total // 1000} K parameters" in text


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
