"""MLP against its formula and its documented size."""

import torch
from torch import nn

from leyden.models.mlp import MLP


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


def test_parameter_counts_are_the_documented_ones() -> None:
    of_mnist = MLP(input_shape=(1, 28, 28), num_classes=10)
    assert sum(p.numel() for p in of_mnist.parameters()) == 784 * 128 + 128 + 128 * 10 + 10 == 101_770
    of_vectors = MLP(input_shape=(10,), num_classes=10, hidden_sizes=[20])  # 10-20-10
    assert sum(p.numel() for p in of_vectors.parameters()) == 430
