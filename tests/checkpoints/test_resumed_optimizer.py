"""A restored optimizer, whose arguments or weights have changed since the checkpoint."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from leyden.checkpoints.resumed_optimizer import ChangedOptimizer, StateMemoryFormat


@pytest.mark.parametrize("changes", [{}, {"model.optimizer.fused": (None, True)}])
def test_a_fused_optimizer_goes_on_as_a_plain_one_where_the_memory_format_of_weights_has_changed(
    changes: dict[str, tuple[Any, Any]],
) -> None:
    layers = [nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3)]
    layers[1].load_state_dict(layers[0].state_dict())
    fused = torch.optim.AdamW(layers[0].parameters(), fused=None if changes else True)
    plain = torch.optim.AdamW(layers[1].parameters())
    x = torch.randn(2, 4, 8, 8)
    for step in range(4):
        if step == 2:  # as the overlay channels_last does to a run that goes on
            layers[0].to(memory_format=torch.channels_last)
            trainer: Any = SimpleNamespace(optimizers=[fused], lr_scheduler_configs=[])
            for callback in (ChangedOptimizer(changes), StateMemoryFormat()):
                callback.on_train_start(trainer, layers[0])  # type: ignore[arg-type]
            assert fused.param_groups[0]["fused"]
        for layer, optimizer in zip(layers, (fused, plain), strict=True):
            optimizer.zero_grad()
            layer(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(layers[0].state_dict(), layers[1].state_dict())
