"""The plain network and its parts against written formulas."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from leyden import PROJECT
from leyden.cli.main import main
from leyden.data.digits import DigitsDataModule
from leyden.models.plain_net import DepthwiseSeparableConv2d, PlainNet, RowsToSequence

MNIST: dict[str, Any] = {"input_shape": (1, 28, 28), "num_classes": 10}
TEMPORAL: dict[str, Any] = {
    "rearrange": RowsToSequence,
    "conv": nn.Conv1d,
    "norm": nn.BatchNorm1d,
    "pool": nn.MaxPool1d,
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 6_330),
        ({"norm": nn.Identity, "pool": nn.AvgPool2d}, 6_218),  # less 2 x (8 + 16 + 32) of batch-norm
        ({"kernel_size": 5}, 16_698),
        ({"kernel_size": 7}, 32_250),
        ({"dilation": 2}, 6_330),
        ({"conv": DepthwiseSeparableConv2d}, 1_396),
        ({**TEMPORAL, "channels": [64, 128]}, 31_818),
        ({"channels": [16, 24, 32], "convs_per_stage": 2}, 27_978),  # strong_mnist
    ],
)
def test_parameter_counts_are_the_written_sums(options: dict[str, Any], expected: int) -> None:
    assert sum(p.numel() for p in PlainNet(**MNIST, **options).parameters()) == expected


def test_the_network_is_convolutions_batch_norm_relu_pooling_mean_and_a_linear_head() -> None:
    model = PlainNet(**MNIST, channels=[4, 6], convs_per_stage=2)
    x = torch.randn(32, 1, 28, 28)
    model.train()(x)  # so that the running statistics are not those of the start
    w = {name: value.detach() for name, value in model.eval().network.state_dict().items()}
    h = x
    for i in (1, 2):
        for j in (1, 2):
            h = F.conv2d(h, w[f"conv{i}_{j}.weight"], w[f"conv{i}_{j}.bias"], padding=1)
            mean, var, scale, shift = (
                w[f"norm{i}_{j}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
            )
            h = ((h - mean) / (var + 1e-5).sqrt() * scale + shift).clamp(min=0)
        h = h.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(4, 5))  # the largest of each 2x2 pixels
    torch.testing.assert_close(model(x), h.mean(dim=(2, 3)) @ w["head.weight"].T + w["head.bias"])


def test_a_depthwise_separable_convolution_is_its_two_convolutions_written_out() -> None:
    layer = DepthwiseSeparableConv2d(3, 5, kernel_size=3, padding="same", dilation=2)
    w = dict(layer.named_parameters())
    x = torch.randn(2, 3, 9, 9)
    padded, (height, width) = F.pad(x, [2] * 4), (9, 9)
    by_channel = torch.stack([bias.expand(2, height, width) for bias in w["depthwise.bias"]], dim=1)
    for row in range(3):
        for column in range(3):
            seen = padded[:, :, 2 * row : 2 * row + height, 2 * column : 2 * column + width]
            by_channel = by_channel + seen * w["depthwise.weight"][:, 0, row, column, None, None]
    mixed = torch.einsum("bchw,oc->bohw", by_channel, w["pointwise.weight"][:, :, 0, 0])
    torch.testing.assert_close(layer(x), mixed + w["pointwise.bias"][:, None, None])


@pytest.mark.parametrize(
    ("options", "reach"),
    [
        ({}, {-1, 0, 1}),
        ({"kernel_size": 7}, {-3, -2, -1, 0, 1, 2, 3}),
        ({"dilation": 2}, {-2, 0, 2}),
        ({"dilation": 3, "conv": DepthwiseSeparableConv2d}, {-3, 0, 3}),
    ],
)
def test_a_position_sees_the_pixels_that_kernel_size_and_dilation_say(options: dict[str, Any], reach: set[int]) -> None:
    layer = PlainNet(**MNIST, **options).network.conv1_1
    x = torch.zeros(1, 1, 15, 15, requires_grad=True)
    layer(x)[0, 0, 7, 7].backward()  # type: ignore[operator]
    assert x.grad is not None
    seen = {(row - 7, column - 7) for row, column in x.grad[0, 0].nonzero().tolist()}
    assert seen == {(row, column) for row in reach for column in reach}


def test_a_row_becomes_a_time_step_and_its_pixels_the_channels() -> None:
    x = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    sequence = RowsToSequence()(x)
    assert sequence.shape == (2, 15, 4)
    assert sequence[1, 2 * 5 + 3, 1] == x[1, 2, 1, 3]  # channel C*W + column, time: the row


def test_a_temporal_convolution_is_one_over_the_image_as_wide_as_the_image() -> None:
    network = PlainNet(input_shape=(2, 12, 7), num_classes=10, channels=[4, 5], **TEMPORAL).network
    layer = network.conv1_1
    assert isinstance(layer, nn.Conv1d)
    x = torch.randn(3, 2, 12, 7)
    kernel = layer.weight.reshape(4, 2, 7, 3).transpose(2, 3)  # (out, C*W, k) -> (out, C, k, W)
    expected = F.conv2d(x, kernel, layer.bias, padding=(1, 0)).squeeze(3)  # (B, out, T)
    torch.testing.assert_close(layer(RowsToSequence()(x)), expected)


def alexnet_response_norm(a: Tensor) -> Tensor:
    """Section 3.3 of the paper, with its constants, channel by channel."""
    k, n, alpha, beta = 2, 5, 1e-4, 0.75
    channels = a.shape[1]
    b = torch.empty_like(a)
    for i in range(channels):
        nearby = a[:, max(0, i - n // 2) : min(channels - 1, i + n // 2) + 1]
        b[:, i] = a[:, i] / (k + alpha * (nearby**2).sum(dim=1)) ** beta
    return b


def test_the_configured_response_normalisation_is_that_of_alexnet() -> None:
    config = yaml.safe_load((PROJECT / "configs" / "conv_lrn_avgpool_mnist.yaml").read_text())
    given = config["model"]["init_args"]["response_norm"]
    assert given["class_path"] == "torch.nn.LocalResponseNorm"
    a = 100 * torch.rand(2, 9, 3, 3)  # large, so that the sum weighs beside k
    torch.testing.assert_close(nn.LocalResponseNorm(**given["init_args"])(a), alexnet_response_norm(a))


def test_response_normalisation_stands_between_activation_and_pooling() -> None:
    options = {"activation": nn.Tanh, "response_norm": partial(nn.LocalResponseNorm, size=3), "pool": nn.AvgPool2d}
    network = PlainNet(**MNIST, channels=[4], norm=nn.Identity, **options).network
    kinds = [type(layer) for layer in network]  # type: ignore[attr-defined]
    assert kinds[1:6] == [nn.Conv2d, nn.Identity, nn.Tanh, nn.LocalResponseNorm, nn.AvgPool2d]


@pytest.mark.parametrize(
    "options",
    [{"conv": DepthwiseSeparableConv2d, "response_norm": partial(nn.LocalResponseNorm, size=3, k=2.0)}, TEMPORAL],
    ids=["separable", "temporal"],
)
def test_a_python_run_reloads_with_weights_only(options: dict[str, Any], tmp_path: Path) -> None:
    model = PlainNet(**MNIST, channels=[4, 4], **options)
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(model, DigitsDataModule(val_size=10))
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    loaded = PlainNet.load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True)
    x = torch.randn(5, 1, 28, 28)
    assert torch.equal(loaded.eval()(x), model.eval()(x))


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--model.channels", "[4,4,4,4,4]"], "too small"),
        (["--model.conv", "torch.nn.Conv1d"], "conv1d"),
    ],
)
def test_a_network_that_the_images_do_not_fit_is_refused_in_one_line(
    flags: list[str], reason: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--model", "PlainNet", "--data", "DigitsDataModule", *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "PlainNet does not fit DigitsDataModule" in line
    assert reason in line
