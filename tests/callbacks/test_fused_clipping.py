"""Gradient clipping with a fused optimizer, against a plain one."""

from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from leyden.callbacks.fused_clipping import FusedClipping
from leyden.data.digits import DigitsDataModule
from leyden.models.plain_net import PlainNet


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_fused_optimizer_clips_gradients_as_a_plain_one(precision: Any) -> None:
    weights = []
    for fused in (None, True):
        torch.manual_seed(0)
        optimizer = partial(torch.optim.Adam, lr=0.1, eps=1.0, fused=fused)  # at eps 1, the size of gradients counts
        model = PlainNet(input_shape=(1, 8, 8), num_classes=10, channels=(4, 8), optimizer=optimizer)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            max_steps=5,
            precision=precision,
            gradient_clip_val=0.01,
            accelerator="cpu",
            enable_checkpointing=False,
            callbacks=[FusedClipping()],
            **quiet,
        )
        trainer.fit(model, DigitsDataModule(size=8))
        weights.append(model.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
