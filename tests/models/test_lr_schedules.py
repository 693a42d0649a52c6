"""Learning-rate schedules against their formulas."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR

from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.models.lr_schedules import WarmupCosine
from leyden.models.mlp import MLP


def rates(epochs: int, **options: Any) -> list[float]:
    """The learning rate before each optimizer step of a run of 4 steps an epoch."""
    seen = []

    class Recorder(MLP):
        def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
            seen.append(optimizer.param_groups[0]["lr"])

    model = Recorder(input_shape=(10,), num_classes=10, optimizer=partial(torch.optim.SGD, lr=1.0), **options)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = Trainer(max_epochs=epochs, enable_checkpointing=False, accelerator="cpu", **quiet)
    run.fit(model, SyntheticClustersDataModule(num_samples=300, val_size=44, batch_size=64))
    return seen


def test_step_lr_drops_to_a_tenth_every_thirty_epochs() -> None:
    seen = rates(61, lr_scheduler=partial(StepLR, step_size=30, gamma=0.1))
    assert seen == pytest.approx([1.0] * 120 + [0.1] * 120 + [0.01] * 4)


def test_the_same_schedule_by_epoch_and_by_step_is_two_schedules() -> None:
    drop, fall = partial(StepLR, step_size=2, gamma=0.1), partial(CosineAnnealingLR, T_max=16)
    assert rates(4, lr_scheduler=drop, lr_interval="epoch") == pytest.approx([1.0] * 8 + [0.1] * 8)
    assert rates(4, lr_scheduler=drop, lr_interval="step") == pytest.approx([0.1 ** (i // 2) for i in range(16)])
    by_step, by_epoch = (rates(4, lr_scheduler=fall, lr_interval=interval) for interval in ("step", "epoch"))
    assert by_step[-1] < 0.01  # 16 steps are the whole run
    assert by_epoch[-1] > 0.9  # 16 epochs would be four runs


def test_a_schedule_by_step_takes_its_length_from_the_trainer() -> None:
    schedule = partial(OneCycleLR, max_lr=1.0, total_steps=None, pct_start=0.5, div_factor=10)
    seen = rates(3, lr_interval="step", lr_scheduler=schedule)
    assert len(seen) == 12
    assert seen[0] == pytest.approx(0.1)  # max_lr / div_factor
    assert max(seen) == pytest.approx(1.0)
    assert seen[-1] == pytest.approx(0.1 / 1e4)  # the last step is the end of the cycle, not before and not after


def test_warmup_cosine_is_its_formula() -> None:
    seen = rates(3, lr_interval="step", lr_scheduler=partial(WarmupCosine, warmup_steps=3, total_steps=None))
    rise = [1 / 4, 2 / 4, 3 / 4]
    fall = [0.5 * (1 + math.cos(math.pi * i / 9)) for i in range(9)]
    assert seen == pytest.approx(rise + fall)
