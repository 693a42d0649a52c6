"""Each network against something independent: a closed form, a plain torch network, a parameter count."""

from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.nn import functional as F  # noqa: N812

from leyden.data.synthetic import SyntheticRegressionDataModule
from leyden.models.conv_net import ConvNet
from leyden.models.linear_regression import LinearRegression
from leyden.models.mlp import MLP


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_are_the_documented_ones() -> None:
    mnist = {"input_shape": (1, 28, 28), "num_classes": 10}
    assert count(ConvNet(**mnist)) == 21_840
    assert count(MLP(**mnist)) == 101_770  # 784 x 128 + 128 + 128 x 10 + 10
    assert count(MLP(input_shape=(10,), num_classes=10, hidden_sizes=[20])) == 430  # 10-20-10
    assert count(LinearRegression(input_shape=(10,), out_features=1)) == 11


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


def test_mlp_is_its_formula_with_any_activation() -> None:
    model = MLP(input_shape=(1, 4, 5), num_classes=3, hidden_sizes=[6, 5], activation=nn.Mish)
    w = dict(model.network.named_parameters())
    h = torch.randn(2, 1, 4, 5)
    x = h
    h = h.reshape(2, 20)
    for layer in ("hidden1", "hidden2"):
        h = h @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]
        h = h * torch.tanh(torch.log(1 + torch.exp(h)))  # Mish as published
    torch.testing.assert_close(model(x), h @ w["head.weight"].T + w["head.bias"])


def test_each_activation_is_its_own_module() -> None:
    network = MLP(input_shape=(4,), num_classes=2, hidden_sizes=[3, 3], activation=nn.PReLU).network
    assert network.activation1 is not network.activation2  # PReLU has a parameter of its own


def test_linear_regression_reaches_the_least_squares_solution() -> None:
    data = SyntheticRegressionDataModule(num_samples=600, val_size=100, batch_size=500)
    model = LinearRegression(input_shape=(10,), out_features=1, optimizer=partial(torch.optim.SGD, lr=0.1))
    Trainer(
        max_epochs=150,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(model, data)
    x, y = data.train_set.x[data.train_set.indices].numpy(), data.train_set.labels.numpy()
    solution = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    layer = model.network[1]
    assert isinstance(layer, nn.Linear)
    np.testing.assert_allclose(layer.weight.detach().numpy()[0], solution[:-1, 0], atol=1e-4)
    np.testing.assert_allclose(layer.bias.item(), solution[-1, 0], atol=1e-4)
    torch.testing.assert_close(layer.weight.detach(), data.weight, atol=0.02, rtol=0)  # and the W that made the data
