"""What a run that has ended is told to raise, so that it goes on."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from leyden.checkpoints.resume import ChangedOptimizer, check_resumable, limits_to_raise
from leyden.errors import UserError

TIMER = {"class_path": "lightning.pytorch.callbacks.Timer", "init_args": {"duration": "00:00:00:01"}}
STOPPING = {"class_path": "lightning.pytorch.callbacks.EarlyStopping", "init_args": {}}
LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "epochs": ({"max_epochs": 3, "max_time": "00:01:00:00", "callbacks": [TIMER]}, "--trainer.max_epochs"),
    "steps": ({"max_epochs": 10, "max_steps": 20}, "--trainer.max_steps"),
    "steps alone": ({"max_epochs": -1, "max_steps": 20}, "--trainer.max_steps"),
    "time": ({"max_epochs": 10, "max_steps": -1, "max_time": "00:00:00:01"}, "--trainer.max_time"),
    "a Timer": ({"max_epochs": 10, "callbacks": [TIMER]}, "the duration of its Timer"),
    "one callback": ({"max_epochs": 10, "callbacks": TIMER}, "the duration of its Timer"),
    "EarlyStopping": ({"max_epochs": 10, "callbacks": [STOPPING]}, "the patience of its EarlyStopping"),
    "nothing known": ({"max_epochs": 10, "callbacks": None}, "--trainer.max_epochs"),
}


@pytest.mark.parametrize("ended_by", LIMITS)
def test_what_ended_a_run_is_what_it_is_told_to_raise(ended_by: str) -> None:
    trainer, expected = LIMITS[ended_by]
    assert limits_to_raise({"trainer": trainer}, epoch=3, step=20).startswith(expected)
    finished = {
        "optimizer_states": [],
        "finished": True,
        "epoch": 3,
        "global_step": 20,
        "config": {"trainer": trainer},
    }
    with pytest.raises(UserError, match=f"raise {expected}"):
        check_resumable(finished, {})


def test_a_run_that_a_callback_has_ended_goes_on_with_other_callbacks() -> None:
    old, new = ({"trainer": {"max_epochs": 10, "callbacks": callbacks}} for callbacks in ([TIMER], []))
    finished = {"optimizer_states": [], "finished": True, "epoch": 3, "global_step": 20, "config": old}
    check_resumable(finished, {}, new)


@pytest.mark.parametrize("changes", [{}, {"model.optimizer.fused": (None, True)}])
def test_a_fused_optimizer_goes_on_as_a_plain_one_where_the_memory_order_of_weights_has_changed(
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
            ChangedOptimizer(changes).on_train_start(trainer, layers[0])  # type: ignore[arg-type]
            assert fused.param_groups[0]["fused"]
        for layer, optimizer in zip(layers, (fused, plain), strict=True):
            optimizer.zero_grad()
            layer(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(layers[0].state_dict(), layers[1].state_dict())
