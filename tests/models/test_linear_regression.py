"""Linear regression against the least-squares solution."""

from functools import partial

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import nn

from leyden.data.synthetic import SyntheticRegressionDataModule
from leyden.models.linear_regression import LinearRegression


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


def test_parameter_count_is_the_documented_one() -> None:
    assert sum(p.numel() for p in LinearRegression(input_shape=(10,), out_features=1).parameters()) == 11
