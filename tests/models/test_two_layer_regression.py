"""The two-layer regression against its formula and against the best that a linear model can do."""

from functools import partial

import numpy as np
import torch
from lightning.pytorch import Trainer

from leyden.data.synthetic import SyntheticRegressionDataModule
from leyden.models.two_layer_regression import TwoLayerRegression


def test_it_is_linear_clamp_linear() -> None:
    model = TwoLayerRegression(input_shape=(2, 3), out_features=4, hidden_features=5)
    w = dict(model.network.named_parameters())
    assert sum(p.numel() for p in w.values()) == 59  # 6 x 5 + 5 + 5 x 4 + 4
    x = torch.randn(7, 2, 3)
    hidden = (x.reshape(7, 6) @ w["hidden.weight"].T + w["hidden.bias"]).clamp(min=0)
    torch.testing.assert_close(model(x), hidden @ w["head.weight"].T + w["head.bias"])


def test_on_a_sine_it_beats_every_linear_model() -> None:
    data = SyntheticRegressionDataModule(nonlinear=True, val_size=1000, batch_size=64)
    torch.manual_seed(0)
    model = TwoLayerRegression(input_shape=(10,), out_features=1, optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer = Trainer(
        max_epochs=6,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    (scores,) = trainer.test(model, data, verbose=False)

    def with_ones(x: torch.Tensor) -> np.ndarray:
        return np.column_stack([x.numpy(), np.ones(len(x))])

    train, test = data.train_set, data.test_set
    solution = np.linalg.lstsq(with_ones(train.x[train.indices]), train.labels.numpy())[0]
    linear = ((with_ones(test.x) @ solution - test.y.numpy()) ** 2).mean()
    assert scores["test/loss"] < 0.5 * linear
