"""Losses of classifiers and regressors against their formulas."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassF1Score

from leyden.data.digits import DigitsDataModule
from leyden.data.mix import CutMix
from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.errors import UserError
from leyden.models.conv_net import ConvNet
from leyden.models.linear_regression import LinearRegression
from leyden.models.mlp import MLP
from leyden.models.tasks import NetworkClassifier


def test_a_network_emits_logits_whose_cross_entropy_is_that_of_the_written_formula() -> None:
    model = MLP(input_shape=(10,), num_classes=4)
    logits, y = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.5, 0.5, 0.5, 0.5]]), torch.tensor([1, 3])
    expected = [-math.log(math.exp(2) / (math.e + math.exp(2) + 1 + 1 / math.e)), math.log(4)]
    assert model.loss(logits, y).item() == pytest.approx(sum(expected) / 2)


def test_the_regression_loss_is_the_mean_over_samples_and_values() -> None:
    model = LinearRegression(input_shape=(3,), out_features=2)
    loss = model.loss(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
    assert loss.item() == pytest.approx((0 + 4 + 9 + 0) / 4)


def test_a_task_without_its_kind_of_target_says_so() -> None:
    with pytest.raises(UserError, match="MLP needs class labels"):
        MLP(input_shape=(10,), num_classes=None)
    with pytest.raises(UserError, match="LinearRegression needs real targets"):
        LinearRegression(input_shape=(10,), out_features=None)


def test_a_network_of_ones_own_is_trained_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leyden.cli.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(
        "model:\n  class_path: NetworkClassifier\n  init_args:\n    network:\n"
        "      class_path: torch.nn.Linear\n      init_args: {in_features: 10, out_features: 10}\n"
        "data: SyntheticClustersDataModule\ntrainer: {max_epochs: 1}\n"
    )
    assert main(["fit", "--config", "own.yaml"]) == 0
    (file,) = tmp_path.glob("runs/own/*/checkpoints/best.ckpt")
    assert isinstance(NetworkClassifier.load_from_checkpoint(file, weights_only=True).network, nn.Linear)


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


SOFT = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.1, 0.9], [1.0, 0.0, 0.0], [0.25, 0.25, 0.5]])


def written_loss(logits: torch.Tensor, target: list[list[float]], weight: list[float], smoothing: float) -> float:
    """-sum(w_c q_nc log p_nc) / sum(w_c y_nc), with q = (1 - s) y + s / C."""
    above = below = 0.0
    for row, log_p in zip(target, logits.log_softmax(dim=1).tolist(), strict=True):
        for w, y, lp in zip(weight, row, log_p, strict=True):
            above -= w * ((1 - smoothing) * y + smoothing / len(row)) * lp
            below += w * y
    return above / below


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 40.0]])
def test_the_loss_of_probabilities_is_the_written_formula_and_of_0_and_1_that_of_labels(
    weight: list[float] | None, smoothing: float
) -> None:
    model = MLP(input_shape=(10,), num_classes=3, class_weights=weight, label_smoothing=smoothing).train()
    model.on_fit_start()
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    expected = written_loss(logits, SOFT.tolist(), weight or [1.0] * 3, smoothing)
    assert model.loss(logits, SOFT).item() == pytest.approx(expected, rel=1e-5)
    labels = torch.tensor([0, 2, 1, 2])
    hard = nn.functional.one_hot(labels, 3).float()
    torch.testing.assert_close(model.loss(logits, hard), model.loss(logits, labels))
    torch.testing.assert_close(
        model.loss(logits, hard), nn.CrossEntropyLoss(model._weight, label_smoothing=smoothing)(logits, labels)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_weighted_loss_of_probabilities_is_over_the_batches_of_all_ranks(smoothing: float, ranks: Any) -> None:
    weight = [1.0, 2.0, 40.0]
    logits, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.cat([SOFT, SOFT.flip(1)])
    options: dict[str, Any] = {"class_weights": weight, "label_smoothing": smoothing}
    models = [MLP(input_shape=(10,), num_classes=3, **options).train() for _ in range(2)]

    def loss(rank: int) -> torch.Tensor:
        models[rank].on_fit_start()
        return models[rank].loss(logits[4 * rank :][:4], y[4 * rank :][:4])

    mean = torch.stack(ranks.run(loss)).mean().item()
    assert mean == pytest.approx(written_loss(logits, y.tolist(), weight, smoothing), rel=1e-5)


@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 40.0]])
def test_the_loss_of_probabilities_is_in_float32_under_autocast(weight: list[float] | None) -> None:
    model = MLP(input_shape=(10,), num_classes=3, class_weights=weight).train()
    model.on_fit_start()
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(logits, SOFT)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, model.loss(logits.float(), SOFT))


def test_the_training_accuracy_of_mixtures_compares_with_the_larger_part_and_the_validation_with_the_label() -> None:
    model = MLP(input_shape=(3,), num_classes=3, metrics=[MulticlassF1Score])
    output = torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    model.update_metrics("train", output, SOFT, torch.tensor(1.0))
    model.update_metrics("val", output, SOFT.argmax(dim=1), torch.tensor(1.0))
    model.flush_metrics("train")
    model.flush_metrics("val")
    for name in ("acc", "f1_score"):
        assert model.metrics("train")[name].compute() == model.metrics("val")[name].compute()
    assert model.metrics("train")["acc"].compute() == 0.5


def test_with_mixed_training_images_the_validation_is_that_of_clean_images_and_labels() -> None:
    data = DigitsDataModule(mix=CutMix(), batch_size=64)
    model = ConvNet(input_shape=(1, 28, 28), num_classes=10, class_weights="balanced")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = Trainer(max_epochs=1, enable_checkpointing=False, accelerator="cpu", **quiet)
    run.fit(model, data)
    model.eval()
    clean = data.normalize(data.val_set.x[data.val_set.indices])
    with torch.no_grad():
        logits = model(clean)
    right = logits.argmax(dim=1) == data.val_set.labels
    assert run.callback_metrics["val/acc"].item() == pytest.approx(right.double().mean().item())
    loss = nn.functional.cross_entropy(logits, data.val_set.labels)
    assert run.callback_metrics["val/loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert run.callback_metrics["train/loss"].isfinite()
