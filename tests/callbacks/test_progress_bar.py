"""The progress bar of a terminal."""

from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer

from leyden.callbacks.progress_bar import RunProgressBar
from leyden.cli.main import main

from .conftest import QUIET, SHORT, Logging

pytestmark = pytest.mark.slow


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("progress_bar", "epoch_lines"):
        monkeypatch.setattr(f"leyden.callbacks.{module}.draws_bars", lambda: True)


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_a_bar_that_counts_epochs_from_one_and_no_lines(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(SHORT) == 0
    out = capfd.readouterr().out
    assert "Epoch 2/2" in out
    assert "━" in out
    assert "epoch 1/2" not in out


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
