"""The table of layers fits the terminal."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.utilities.model_summary import summarize
from torch import nn

from leyden.callbacks.layer_summary import LayerSummary

from .conftest import QUIET


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
