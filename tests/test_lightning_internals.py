"""Each private name that the project uses still is what it was."""

import os
import sys

import pytest
import torch
from wandb.sdk import wandb_setup
from wandb.sdk.wandb_run import Run

from leyden import lightning_internals


def test_torch_unscales_before_clipping_if_a_fused_optimizer_says_so() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight], fused=True)
    assert getattr(optimizer, "_step_supports_amp_scaling", None) is True, (
        "torch has renamed Optimizer._step_supports_amp_scaling: FusedClipping has no effect"
    )
    lightning_internals.unscale_before_clipping(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(weight.sum()).backward()
    scaler.unscale_(optimizer)
    assert weight.grad is not None
    scaler.step(optimizer)
    assert weight.grad.tolist() == [1.0, 1.0], "torch divides the gradients of a fused optimizer twice"


def test_wandb_still_has_the_process_that_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    singleton = wandb_setup.singleton()
    assert hasattr(singleton, "_connection"), "wandb has moved the connection to its process: it cannot be killed"
    killed = []

    class Service:
        class _proc:  # noqa: N801
            class _process:  # noqa: N801
                kill = staticmethod(lambda: killed.append(True))

    monkeypatch.setattr(singleton, "_connection", None)
    assert not lightning_internals.kill_wandb_service()
    monkeypatch.setattr(singleton, "_connection", Service)
    assert lightning_internals.kill_wandb_service()
    assert killed == [True]


def test_wandb_applies_inputs_of_a_job_only_once_launch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "_detect_and_apply_job_inputs"
    assert hasattr(Run, name), f"wandb has renamed Run.{name}: each start imports W&B Launch, 0.9 CPU seconds"
    applied: list[object] = []
    monkeypatch.setattr(Run, name, applied.append)
    lightning_internals.skip_wandb_launch.__wrapped__()
    monkeypatch.delitem(sys.modules, "wandb.sdk.launch", raising=False)
    getattr(Run, name)("first")
    monkeypatch.setitem(sys.modules, "wandb.sdk.launch", os)
    getattr(Run, name)("second")
    assert applied == ["second"]
