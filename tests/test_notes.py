"""What docs/notes.md says of torch, torchvision and torchmetrics, each statement by a closed form or an experiment."""

import inspect
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from scipy.stats import binom
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torchmetrics.classification import BinaryAUROC, BinaryF1Score, MulticlassAUROC, MulticlassF1Score
from torchvision.transforms import v2

from leyden.data.array_dataset import ArrayDataset, Batch
from leyden.data.datamodules import ArrayDataModule
from leyden.data.transforms import RandomAffine, RandomCrop, RandomHorizontalFlip
from leyden.errors import UserError
from leyden.models.linear_regression import LinearRegression
from leyden.models.mlp import MLP
from leyden.models.res_net import ResNet

# Losses and scores


def test_softmax_before_cross_entropy_bounds_the_loss_and_flattens_the_gradient() -> None:
    loss = MLP(input_shape=(10,), num_classes=3).loss
    right, wrong = torch.tensor([0]), torch.tensor([1])

    def gradient(y: Tensor, squeeze: Callable[[Tensor], Tensor]) -> float:
        logits = torch.tensor([[30.0, 0.0, 0.0]], requires_grad=True)  # sure of class 0
        loss(squeeze(logits), y).backward()
        assert logits.grad is not None
        return float(logits.grad.abs().max())

    def nothing(logits: Tensor) -> Tensor:
        return logits

    softmax = partial(torch.softmax, dim=1)
    sure = torch.tensor([[30.0, 0.0, 0.0]])
    assert float(loss(sure, right)) == pytest.approx(0, abs=1e-6)
    assert float(loss(softmax(sure), right)) == pytest.approx(math.log(1 + 2 / math.e))  # and never less
    assert gradient(wrong, nothing) == pytest.approx(1)
    assert gradient(wrong, softmax) < 1e-9  # the mistake is not corrected


def test_nll_loss_of_logits_has_no_lower_bound() -> None:
    y = torch.tensor([0])
    for logit in (1.0, 100.0, 1e6):
        logits = torch.tensor([[logit, 0.0, 0.0]])
        assert F.nll_loss(logits, y) == -logit
        assert F.cross_entropy(logits, y) >= 0
        torch.testing.assert_close(F.nll_loss(logits.log_softmax(dim=1), y), F.cross_entropy(logits, y))


def test_class_weights_weigh_each_smoothed_term_by_its_own_class() -> None:
    weights, smoothing = [1.0, 2.0, 4.0], 0.3
    model = MLP(input_shape=(10,), num_classes=3, class_weights=weights, label_smoothing=smoothing)
    model.on_fit_start()
    logits, y = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.0, 2.0]]), [0, 2]
    of_its_own = of_the_target = 0.0
    for log_p, label in zip(logits.log_softmax(dim=1).tolist(), y, strict=True):
        target = [smoothing / 3 + (1 - smoothing) * (c == label) for c in range(3)]
        of_its_own -= sum(w * q * lp for w, q, lp in zip(weights, target, log_p, strict=True))
        of_the_target -= weights[label] * sum(q * lp for q, lp in zip(target, log_p, strict=True))
    loss = model.train().loss(logits, torch.tensor(y)).item()
    assert loss == pytest.approx(of_its_own / (1 + 4))  # divided by the weights of the targets all the same
    assert loss != pytest.approx(of_the_target / (1 + 4), rel=0.01)


def test_a_target_without_its_last_dimension_is_broadcast_by_the_mean_squared_error_and_refused_here() -> None:
    y = torch.randn(100)
    output = y[:, None].clone().requires_grad_()  # (B, 1), each value right
    with pytest.warns(UserWarning, match="incorrect results due to broadcasting"):
        loss = F.mse_loss(output, y)
    assert loss.item() == pytest.approx(2 * y.var(correction=0).item())  # over all B x B pairs
    loss.backward()
    torch.testing.assert_close(output.grad, 2 / 100 * (output.detach() - y.mean()))  # it pulls to one mean for all
    with pytest.raises(UserError, match=r"targets \(100,\) do not fit outputs \(100, 1\)"):
        LinearRegression(input_shape=(3,), out_features=1).loss(output, y)


def test_the_mean_of_the_batches_is_wrong_for_auroc_and_f1_also_where_batches_are_equal() -> None:
    p, y = torch.tensor([[0.1, 0.2], [0.8, 0.9]]), torch.tensor([[0, 1], [0, 1]])  # two batches
    auroc = BinaryAUROC()
    assert [float(auroc(*batch)) for batch in zip(p, y, strict=True)] == [1.0, 1.0]
    assert float(auroc.compute()) == 0.75  # three of the four pairs are in order
    p, y = torch.tensor([[0.9, 0.9], [0.1, 0.1]]), torch.tensor([[0, 1], [0, 0]])
    f1 = BinaryF1Score()
    assert [float(f1(*batch)) for batch in zip(p, y, strict=True)] == pytest.approx([2 / 3, 0.0])
    assert float(f1.compute()) == pytest.approx(2 / 3)


def test_an_exact_auroc_keeps_all_samples_and_one_with_thresholds_counts() -> None:
    metrics: Any = [MulticlassAUROC, type("Counted", (MulticlassAUROC,), {})]
    model = MLP(input_shape=(10,), num_classes=3, metrics=[metrics[0], partial(metrics[1], thresholds=100)])
    kept = []
    for _ in range(2):
        model.update_metrics("val", torch.randn(50, 3), torch.arange(50) % 3, torch.zeros(()))
        model.flush_metrics("val")
        exact, counted = list(model.metrics("val").values())[-2:]
        values = [sum(x.numel() for x in metric.metric_state["preds"]) for metric in (exact,)]
        kept.append((values[0], counted.metric_state["confmat"].numel()))
    assert kept == [(150, 100 * 3 * 4), (300, 100 * 3 * 4)]


def test_the_macro_average_is_the_default_and_the_micro_average_counts_samples() -> None:
    assert inspect.signature(MulticlassF1Score).parameters["average"].default == "macro"
    guesses, y = torch.tensor([0] * 9 + [0]), torch.tensor([0] * 9 + [1])  # nine of ten are right
    assert float(MulticlassF1Score(2, average="micro")(guesses, y)) == pytest.approx(0.9)
    assert float(MulticlassF1Score(2)(guesses, y)) == pytest.approx((18 / 19 + 0) / 2)


def test_the_best_of_many_test_scores_is_higher_than_the_accuracy_and_one_chosen_on_validation_is_not() -> None:
    samples, accuracy, epochs = 360, 0.97, 30
    k = np.arange(samples)
    expected = (1 - binom.cdf(k, samples, accuracy) ** epochs).sum() / samples  # of the largest of 30 draws
    draw = np.random.default_rng(0)
    test, val = draw.binomial(samples, accuracy, (2, 20_000, epochs)) / samples  # no epoch is better than another
    assert test.max(axis=1).mean() == pytest.approx(expected, abs=2e-4)
    assert expected == pytest.approx(0.9867, abs=5e-5)  # 1.7 points that are not there
    by_validation = test[np.arange(20_000), val.argmax(axis=1)]
    assert by_validation.mean() == pytest.approx(accuracy, abs=3e-4)


# Optimizers and schedules


def one_step(optimizer: type[torch.optim.Optimizer], gradient: float, **options: Any) -> float:
    """The weight, 2.0 before, after a first step."""
    weight = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    weight.grad = torch.tensor(gradient, dtype=torch.float64)
    optimizer([weight], lr=0.01, **options).step()  # type: ignore[arg-type, call-arg]
    return float(weight.detach())


def test_weight_decay_of_adam_is_rescaled_like_a_gradient_and_that_of_adamw_is_a_share_of_the_weight() -> None:
    for decay in (0.001, 0.1):
        # Adam adds it to the gradient and divides by the size of the sum: without a gradient, a whole step by any decay
        assert one_step(torch.optim.Adam, 0.0, weight_decay=decay) == pytest.approx(2 - 0.01, rel=1e-4)
        assert one_step(torch.optim.AdamW, 0.0, weight_decay=decay) == pytest.approx(2 * (1 - 0.01 * decay))
        # with a gradient, next to nothing in the first step; AdamW's is the same as without one
        assert one_step(torch.optim.Adam, 1.0, weight_decay=decay) == pytest.approx(2 - 0.01, rel=1e-6)
        assert one_step(torch.optim.AdamW, 1.0, weight_decay=decay) == pytest.approx(2 * (1 - 0.01 * decay) - 0.01)


def test_rmsprop_with_eps_inside_the_root_would_take_other_steps_for_small_gradients() -> None:
    eps = 1e-8
    for gradient, same in ((1.0, True), (1e-6, False)):
        v = 0.01 * gradient**2
        outside, inside = gradient / (math.sqrt(v) + eps), gradient / math.sqrt(v + eps)
        assert one_step(torch.optim.RMSprop, gradient, eps=eps) == pytest.approx(2 - 0.01 * outside, rel=1e-12)
        assert (inside == pytest.approx(outside, rel=1e-5)) == same
    assert inside < outside / 800


def test_weight_decay_shrinks_biases_and_norms_too_unless_they_have_a_group_of_their_own() -> None:
    class Selective(ResNet):
        def configure_optimizers(self) -> Any:
            decayed = [p for p in self.parameters() if p.ndim > 1]
            others = [p for p in self.parameters() if p.ndim <= 1]  # biases, and the scales and shifts of norms
            return self.optimizer([{"params": decayed}, {"params": others, "weight_decay": 0.0}])

    sgd = partial(torch.optim.SGD, lr=0.1, weight_decay=0.1)
    for cls, everywhere in ((ResNet, True), (Selective, False)):
        model = cls(widths=[4, 8], input_shape=(3, 8, 8), num_classes=2, optimizer=sgd)
        for parameter in model.parameters():
            nn.init.ones_(parameter)
            parameter.grad = torch.zeros_like(parameter)
        model.configure_optimizers().step()
        after = {parameter.ndim > 1: parameter.unique().item() for parameter in model.parameters()}
        assert after == pytest.approx({True: 0.99, False: 0.99 if everywhere else 1.0})


@pytest.mark.parametrize("cycles", [True, False])
@pytest.mark.parametrize(
    ("optimizer", "read"),
    [
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9), lambda group: group["momentum"]),
        (partial(torch.optim.Adam, lr=0.1, betas=(0.9, 0.999)), lambda group: group["betas"][0]),
    ],
    ids=["SGD", "Adam"],
)
def test_one_cycle_sets_the_rate_and_unless_told_otherwise_the_momentum(
    optimizer: Any, read: Callable[[dict[str, Any]], float], cycles: bool
) -> None:
    made = optimizer([nn.Parameter(torch.ones(1))])
    schedule = OneCycleLR(made, max_lr=0.2, total_steps=100, cycle_momentum=cycles)
    (group,) = made.param_groups
    rates, momenta = [group["lr"]], [read(group)]
    for _ in range(99):
        made.step()
        schedule.step()
        rates.append(group["lr"])
        momenta.append(read(group))
    assert [rates[0], max(rates), rates[-1]] == pytest.approx([0.2 / 25, 0.2, 0.2 / 25 / 1e4])
    first, least, last = (0.95, 0.85, 0.95) if cycles else (0.9, 0.9, 0.9)
    assert [momenta[0], min(momenta), momenta[-1]] == pytest.approx([first, least, last])


def test_a_cosine_climbs_again_after_t_max() -> None:
    made = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.02)
    schedule = CosineAnnealingLR(made, T_max=30)
    rates = [made.param_groups[0]["lr"]]
    for _ in range(60):
        made.step()
        schedule.step()
        rates.append(made.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01 * (1 + math.cos(math.pi * t / 30)) for t in range(61)], abs=1e-9)
    assert rates[30] == pytest.approx(0, abs=1e-9)
    assert rates[59] == pytest.approx(0.01995, abs=1e-5)


# Numbers of 16 bits


def gradient_of_1e_8(dtype: torch.dtype, scale: float = 1.0) -> float:
    """The gradient at a weight in float32, where activations and their gradients are held in 16 bits."""
    weight = torch.ones((), requires_grad=True)
    activation = weight.to(dtype) * torch.tensor(1e-4, dtype=dtype)
    (scale * 1e-4 * activation.float()).backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    return float(weight.grad) / scale


def test_a_gradient_of_1e_8_needs_loss_scaling_in_float16_and_none_in_bfloat16() -> None:
    assert gradient_of_1e_8(torch.float32) == pytest.approx(1e-8)
    assert gradient_of_1e_8(torch.bfloat16) == pytest.approx(1e-8, rel=0.01)  # the exponent of float32, 8 bits
    assert gradient_of_1e_8(torch.float16) == 0  # below half of its least number, 2^-24 = 6e-8
    assert gradient_of_1e_8(torch.float16, scale=2.0**16) == pytest.approx(1e-8, rel=0.01)


@pytest.mark.filterwarnings("ignore:.*GradScaler is enabled.*")  # without a GPU
def test_lightning_scales_the_loss_in_16_mixed_and_not_in_bf16_mixed() -> None:
    assert isinstance(MixedPrecision("16-mixed", "cuda").scaler, torch.amp.GradScaler)
    assert inspect.signature(torch.amp.GradScaler).parameters["init_scale"].default == 2.0**16
    assert MixedPrecision("bf16-mixed", "cuda").scaler is None


# Data


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (v2.RandomHorizontalFlip(), RandomHorizontalFlip()),
        (v2.RandomCrop(32, padding=4), RandomCrop(4)),
        (v2.RandomAffine(15, (0.1, 0.1)), RandomAffine(degrees=15, translate=0.1)),
    ],
)
def test_a_random_transform_of_torchvision_draws_once_for_a_whole_batch(theirs: nn.Module, ours: nn.Module) -> None:
    x = torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8).expand(64, -1, -1, -1)  # one image 64 times
    assert len(theirs(x).flatten(1).unique(dim=0)) == 1
    assert len(ours(x).flatten(1).unique(dim=0)) > 1


class Slow(ArrayDataset):
    """Takes its time for a batch."""

    delay = 0.0

    def __getitems__(self, indices: list[int]) -> Batch:
        time.sleep(self.delay)
        return super().__getitems__(indices)


class Thousands(ArrayDataModule):
    """6 400 grey images."""

    input_shape = (1, 28, 28)
    num_classes = 10

    def load_arrays(self) -> tuple[Batch, Batch]:
        batch = torch.zeros(6400, 1, 28, 28, dtype=torch.uint8), torch.zeros(6400, dtype=torch.int64)
        return batch, batch

    def seconds(self, delay: float) -> float:
        """The median time of an epoch whose batches take `delay` each, after a first one, which starts the workers."""
        self.setup()
        self.train_set = Slow(self.train_set.x, self.train_set.y, self.train_set.indices)
        self.train_set.delay = delay
        loader = self.train_dataloader()
        times = []
        for _ in range(4):
            start = time.perf_counter()
            assert len(list(loader)) == len(loader)
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])


def test_workers_pay_where_loading_is_slow_and_not_for_arrays_in_memory() -> None:
    helped: dict[str, Any] = {"num_workers": 2, "persistent_workers": True}
    for delay, batch_size, worth in ((0.0, 64, False), (0.05, 640, True)):
        alone = Thousands(val_size=1, batch_size=batch_size).seconds(delay)
        together = Thousands(val_size=1, batch_size=batch_size, **helped).seconds(delay)
        assert (together < alone) == worth


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_copy_from_page_locked_memory_to_a_gpu_is_faster() -> None:
    def seconds(x: Tensor) -> float:
        times = []
        for _ in range(5):
            torch.cuda.synchronize()
            start = time.perf_counter()
            x.to("cuda", non_blocking=True)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)

    x = torch.randn(64 * 2**20)  # 256 MiB
    assert seconds(x.pin_memory()) < seconds(x)
