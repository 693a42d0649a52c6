"""Short runs for the tests of callbacks, each in an empty folder."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.demos.boring_classes import BoringModel
from torch import Tensor

from leyden import PROJECT

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
SHORT = ["fit", "--config", DIGITS, "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "2"]
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Logging(BoringModel):
    """A foreign module that logs one constant per epoch, and a validation score that changes."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("train_loss", 0.5, on_epoch=True)
        loss: Tensor = self.layer(batch).sum() * 0 + 4
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", 1.0 + self.current_epoch)
