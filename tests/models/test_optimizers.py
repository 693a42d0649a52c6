"""The course's optimizers, schedules and losses, step for step with their written formulas in float64."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.errors import UserError
from leyden.models.linear_regression import LinearRegression
from leyden.models.lr_schedules import WarmupCosine
from leyden.models.mlp import MLP
from leyden.models.tasks import NetworkClassifier

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


def test_class_weights_multiply_the_term_of_the_target_class_in_training_only() -> None:
    model = MLP(input_shape=(10,), num_classes=3, class_weights=[1.0, 2.0, 4.0])
    model.on_fit_start()
    logits, y = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]), torch.tensor([0, 2])
    terms = [math.log(math.e + 2) - 1, math.log(math.exp(2) + 2) - 2]
    assert model.train().loss(logits, y).item() == pytest.approx((1 * terms[0] + 4 * terms[1]) / (1 + 4))
    assert model.eval().loss(logits, y).item() == pytest.approx(sum(terms) / 2)


def test_label_smoothing_spreads_its_share_over_all_classes_in_training_only() -> None:
    model = MLP(input_shape=(10,), num_classes=4, label_smoothing=0.2)
    logits, y = torch.tensor([[1.0, 2.0, 0.0, -1.0]]), torch.tensor([1])
    log_p = logits.log_softmax(dim=1)[0].tolist()
    target = [0.05, 0.85, 0.05, 0.05]
    expected = -sum(t * p for t, p in zip(target, log_p, strict=True))
    assert model.train().loss(logits, y).item() == pytest.approx(expected)
    assert model.eval().loss(logits, y).item() == pytest.approx(-log_p[1])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_weighted_mean_is_over_the_batches_of_all_ranks(smoothing: float, ranks: Any) -> None:
    """Ranks whose samples have other weights: a mean of their means would weigh the rare class by its rank."""
    weight = torch.tensor([1.0, 2.0, 40.0])
    torch.manual_seed(0)
    logits, y = torch.randn(8, 3), torch.tensor([0, 1, 0, 0, 2, 2, 1, 2])
    whole = logits.clone().requires_grad_()
    expected = nn.functional.cross_entropy(whole, y, weight=weight, label_smoothing=smoothing)
    expected.backward()
    options: dict[str, Any] = {"class_weights": weight.tolist(), "label_smoothing": smoothing}
    models = [MLP(input_shape=(10,), num_classes=3, **options).train() for _ in range(2)]
    halves = [logits[:4].clone().requires_grad_(), logits[4:].clone().requires_grad_()]

    def loss(rank: int) -> torch.Tensor:
        models[rank].on_fit_start()
        loss = models[rank].loss(halves[rank], y[4 * rank :][:4])
        (loss / 2).backward()  # DDP takes the mean of the gradients
        return loss.detach()

    losses = torch.stack(ranks.run(loss))
    torch.testing.assert_close(losses.mean(), expected.detach())  # what is logged
    torch.testing.assert_close(torch.cat([half.grad for half in halves]), whole.grad)  # type: ignore[arg-type, misc]
    parts = [nn.functional.cross_entropy(logits[i], y[i], weight) for i in (slice(0, 4), slice(4, 8))]
    assert abs(sum(parts) / 2 - expected) > 0.05


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, nn.CrossEntropyLoss()), ({"loss": nn.MultiMarginLoss}, nn.MultiMarginLoss())],
    ids=["cross-entropy", "a loss of one's own"],
)
def test_a_loss_without_class_weights_is_of_the_batch_of_its_own_rank(
    options: dict[str, Any], expected: nn.Module, ranks: Any
) -> None:
    model = MLP(input_shape=(10,), num_classes=3, **options).train()
    model.on_fit_start()
    logits, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    assert ranks.run(lambda rank: model.loss(logits, y).equal(expected(logits, y))) == [True, True]
    assert ranks.sums == 0


def test_an_accumulated_step_takes_the_mean_of_the_weighted_means_of_its_batches() -> None:
    weight = torch.tensor([1.0, 2.0, 40.0])
    torch.manual_seed(0)
    x, y = torch.randn(8, 5), torch.tensor([0, 1, 0, 0, 2, 2, 1, 2])
    layer = nn.Linear(5, 3)
    plain = nn.Linear(5, 3)
    plain.load_state_dict(layer.state_dict())
    (nn.functional.cross_entropy(plain(x[:4]), y[:4], weight) / 2).backward()
    (nn.functional.cross_entropy(plain(x[4:]), y[4:], weight) / 2).backward()
    model = NetworkClassifier(
        layer, input_shape=(5,), num_classes=3, class_weights=weight.tolist(), optimizer=partial(SGD, lr=1.0)
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = Trainer(max_epochs=1, accumulate_grad_batches=2, enable_checkpointing=False, accelerator="cpu", **quiet)
    run.fit(model, DataLoader(TensorDataset(x, y), batch_size=4))
    for trained, parameter in zip(layer.parameters(), plain.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(trained, parameter - parameter.grad)


def fitted(**options: Any) -> MLP:
    model = MLP(input_shape=(10,), num_classes=10, **options)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    data = SyntheticClustersDataModule(num_samples=300, val_size=50)
    Trainer(max_steps=1, enable_checkpointing=False, accelerator="cpu", **quiet).fit(model, data)
    return model


def test_balanced_weights_are_counted_from_the_training_labels() -> None:
    model = fitted(class_weights="balanced")
    data = SyntheticClustersDataModule(num_samples=300, val_size=50)
    data.setup()
    counts = [data.train_set.labels.tolist().count(label) for label in range(10)]
    assert model._weight is not None
    assert model._weight.tolist() == pytest.approx([250 / (10 * count) for count in counts])


def test_weights_that_are_not_one_a_class_are_refused() -> None:
    with pytest.raises(UserError, match="class_weights has 3 numbers, but there are 10 classes"):
        fitted(class_weights=[1.0, 2.0, 3.0])


def test_cross_entropy_takes_logits() -> None:
    logits, y = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    loss = MLP(input_shape=(10,), num_classes=3).loss
    log_p = logits.log_softmax(dim=1)
    torch.testing.assert_close(log_p.log_softmax(dim=1), log_p)
    torch.testing.assert_close(loss(log_p, y), loss(logits, y))  # redundant
    assert not torch.isclose(loss(logits.softmax(dim=1), y), loss(logits, y))  # a bug


def test_two_classes_give_binary_cross_entropy() -> None:
    logits, y = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    p = (logits[:, 1] - logits[:, 0]).sigmoid()  # the probability of class 1
    expected = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    torch.testing.assert_close(MLP(input_shape=(10,), num_classes=2).loss(logits, y), expected)
