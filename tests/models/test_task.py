"""Steps, optimizer and checkpoints of a task, against plain torch."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import ReduceLROnPlateau
from torch import nn
from torch.optim.lr_scheduler import StepLR

from leyden.data.synthetic import SyntheticClustersDataModule, SyntheticRegressionDataModule
from leyden.models.linear_regression import LinearRegression
from leyden.models.mlp import MLP


def trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**{"max_epochs": 1, "enable_checkpointing": False, "accelerator": "cpu", **quiet, **options})


def vectors() -> SyntheticClustersDataModule:
    return SyntheticClustersDataModule(num_samples=300, val_size=100, batch_size=64)  # 64 + 36: an uneven last batch


def test_only_parameters_that_require_a_gradient_reach_the_optimizer() -> None:
    model = MLP(input_shape=(10,), num_classes=10, optimizer=partial(torch.optim.SGD, lr=0.1))
    model.network.hidden1.requires_grad_(False)
    (group,) = model.configure_optimizers().param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in model.network.head.parameters()]


def test_a_scheduler_steps_once_an_epoch() -> None:
    rates = []

    class Recorder(MLP):
        def on_train_epoch_start(self) -> None:
            rates.append(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    model = Recorder(
        input_shape=(10,),
        num_classes=10,
        optimizer=partial(torch.optim.SGD, lr=1.0),
        lr_scheduler=partial(StepLR, step_size=2, gamma=0.1),
    )
    trainer(max_epochs=5).fit(model, vectors())
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01])


def test_a_plateau_scheduler_watches_what_it_is_told_to() -> None:
    model = MLP(
        input_shape=(10,),
        num_classes=10,
        optimizer=partial(torch.optim.SGD, lr=0.0),  # nothing improves
        lr_scheduler=partial(ReduceLROnPlateau, monitor="val/loss", patience=0),
    )
    run = trainer(max_epochs=3)
    run.fit(model, vectors())
    assert run.lr_scheduler_configs[0].monitor == "val/loss"
    assert run.lr_scheduler_configs[0].scheduler.num_bad_epochs == 0  # it has acted on the epochs without progress


def test_one_step_of_training_is_one_step_of_plain_torch() -> None:
    data = SyntheticRegressionDataModule(num_samples=40, val_size=8, batch_size=32)
    model = LinearRegression(input_shape=(10,), out_features=1, optimizer=partial(torch.optim.SGD, lr=0.05))
    layer = model.network[1]
    assert isinstance(layer, nn.Linear)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    trainer().fit(model, data)
    x, y = data.train_set.x[data.train_set.indices], data.train_set.labels
    error = x @ weight.T + bias - y  # gradient of the mean squared error, by hand
    torch.testing.assert_close(layer.weight, weight - 0.05 * 2 * (error.T @ x) / len(x))
    torch.testing.assert_close(layer.bias, bias - 0.05 * 2 * error.mean(dim=0))


def test_tasks_are_lightning_modules_with_nothing_hidden_in_their_state() -> None:
    model = MLP(input_shape=(10,), num_classes=10)
    model.metrics("train")["acc"].update(torch.rand(4, 10), torch.zeros(4, dtype=torch.int64))
    assert isinstance(model, LightningModule)
    assert set(model.state_dict()) == {f"network.{name}" for name in model.network.state_dict()}


Formula = Callable[[float, float, dict[str, float], int], float]  # weight, gradient, memory, step -> weight


def sgd(w: float, g: float, memory: dict[str, float], step: int) -> float:
    return w - 0.01 * g


def momentum(w: float, g: float, memory: dict[str, float], step: int) -> float:
    memory["v"] = g if step == 1 else 0.9 * memory["v"] + g
    return w - 0.01 * memory["v"]


def adam(w: float, g: float, memory: dict[str, float], step: int) -> float:
    memory["m"] = 0.9 * memory.get("m", 0.0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0.0) + 0.001 * g**2
    m, v = memory["m"] / (1 - 0.9**step), memory["v"] / (1 - 0.999**step)
    return w - 0.01 * m / (math.sqrt(v) + 1e-8)


def adamw(w: float, g: float, memory: dict[str, float], step: int) -> float:
    return adam(w - 0.01 * 0.1 * w, g, memory, step)


def rmsprop(w: float, g: float, memory: dict[str, float], step: int) -> float:
    memory["v"] = 0.99 * memory.get("v", 0.0) + 0.01 * g**2
    return w - 0.01 * g / (math.sqrt(memory["v"]) + 0.1)  # eps outside the root; large here, so that it shows


@pytest.mark.parametrize(
    ("optimizer", "formula"),
    [
        (partial(torch.optim.SGD, lr=0.01), sgd),
        (partial(torch.optim.SGD, lr=0.01, momentum=0.9), momentum),
        (partial(torch.optim.Adam, lr=0.01), adam),
        (partial(torch.optim.RMSprop, lr=0.01, eps=0.1), rmsprop),
        (partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1), adamw),
        (partial(torch.optim.SGD, lr=0.01, momentum=0.9, fused=True), momentum),
        (partial(torch.optim.Adam, lr=0.01, fused=True), adam),
        (partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1, fused=True), adamw),
    ],
    ids=["SGD", "momentum", "Adam", "RMSprop", "AdamW", "fused momentum", "fused Adam", "fused AdamW"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_an_optimizer_is_its_written_formula(
    dtype: torch.dtype, tolerance: float, optimizer: Any, formula: Formula
) -> None:
    model = LinearRegression(input_shape=(1,), out_features=1, optimizer=optimizer).to(dtype)
    layer = model.network[1]
    assert isinstance(layer, nn.Linear)
    nn.init.constant_(layer.weight, 2.0)
    nn.init.zeros_(layer.bias)
    x, y = torch.tensor([[1.0], [2.0]], dtype=dtype), torch.tensor([[1.0], [-1.0]], dtype=dtype)
    made = model.configure_optimizers()
    w, b, w_memory, b_memory = 2.0, 0.0, {}, {}  # type: ignore[var-annotated]
    for step in range(1, 11):
        made.zero_grad()
        model.loss(model(x), y).backward()
        made.step()
        errors = [w * 1 + b - 1, w * 2 + b + 1]  # gradient of the mean squared error, by hand
        w, b = (
            formula(w, errors[0] * 1 + errors[1] * 2, w_memory, step),
            formula(b, errors[0] + errors[1], b_memory, step),
        )
        np.testing.assert_allclose([layer.weight.item(), layer.bias.item()], [w, b], rtol=tolerance)
