"""ConvNet against its formula and its documented size."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from leyden.models.conv_net import ConvNet


def test_convnet_is_the_documented_network() -> None:
    model = ConvNet(input_shape=(1, 28, 28), num_classes=10).eval()
    w = dict(model.network.named_parameters())
    x = torch.randn(3, 1, 28, 28)
    h = F.relu(F.max_pool2d(F.conv2d(x, w["conv1.weight"], w["conv1.bias"]), 2))
    h = F.relu(F.max_pool2d(F.conv2d(h, w["conv2.weight"], w["conv2.bias"]), 2)).reshape(3, 320)
    h = F.relu(h @ w["hidden.weight"].T + w["hidden.bias"])
    torch.testing.assert_close(model(x), h @ w["head.weight"].T + w["head.bias"])


def test_convnet_drops_whole_channels_then_features() -> None:
    network = ConvNet(input_shape=(1, 28, 28), num_classes=10).network.train()
    assert isinstance(network, nn.Sequential)
    channels = network.dropout2(torch.ones(64, 20, 8, 8)).flatten(2)  # type: ignore[operator]
    assert set(channels.sum(dim=2).unique().tolist()) == {0.0, 128.0}  # all of a channel or nothing, doubled
    features = network.dropout3(torch.ones(64, 50))  # type: ignore[operator]
    assert 0.4 < (features == 0).float().mean().item() < 0.6


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 32, 32), (1, 28, 20)])
def test_convnet_takes_images_of_other_sizes(shape: tuple[int, ...]) -> None:
    assert ConvNet(input_shape=shape, num_classes=7)(torch.rand(2, *shape)).shape == (2, 7)


def test_parameter_count_is_the_documented_one() -> None:
    model = ConvNet(input_shape=(1, 28, 28), num_classes=10)
    assert sum(p.numel() for p in model.parameters()) == 21_840
