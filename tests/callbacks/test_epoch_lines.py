"""One line per epoch, where stdout is not a terminal."""

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer

from leyden.callbacks.epoch_lines import EpochLines
from leyden.cli.main import main

from .conftest import QUIET, SHORT, Logging

pytestmark = pytest.mark.slow


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
