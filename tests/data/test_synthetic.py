"""Data whose truth is known."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from leyden.data.datamodules import ArrayDataModule
from leyden.data.synthetic import SyntheticClustersDataModule, SyntheticRegressionDataModule


def arrays(dm: ArrayDataModule) -> tuple[Tensor, Tensor]:
    dm.setup()
    return dm.train_set.x, dm.train_set.y


def test_least_squares_finds_the_weights_that_made_the_data() -> None:
    dm = SyntheticRegressionDataModule(in_features=5, out_features=3, noise=0.1)
    x, y = arrays(dm)
    solution = np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0]
    np.testing.assert_allclose(solution[:5].T, dm.weight, atol=0.01)
    np.testing.assert_allclose(solution[5], dm.bias, atol=0.01)
    residual = y - x @ dm.weight.T - dm.bias
    assert float(residual.std()) == pytest.approx(0.1, rel=0.05)


def test_the_nonlinear_target_is_the_sine_of_the_linear_one() -> None:
    x, y = arrays(dm := SyntheticRegressionDataModule(noise=0.0, nonlinear=True))
    torch.testing.assert_close(y, torch.sin(x @ dm.weight.T + dm.bias))


def test_clusters_lie_around_their_centers() -> None:
    x, y = arrays(dm := SyntheticClustersDataModule(in_features=4, num_classes=3, noise=0.5, num_samples=9000))
    for label in range(3):
        points = x[y == label]
        assert points.mean(0).tolist() == pytest.approx(dm.centers[label].tolist(), abs=0.05)
        assert points.std(0).tolist() == pytest.approx([0.5] * 4, rel=0.05)


def test_the_nearest_center_tells_the_cluster() -> None:
    x, y = arrays(dm := SyntheticClustersDataModule())
    nearest = torch.cdist(x, dm.centers).argmin(1)
    assert float((nearest == y).float().mean()) > 0.99


@pytest.mark.parametrize("cls", [SyntheticRegressionDataModule, SyntheticClustersDataModule])
def test_the_data_depend_on_their_own_seed_alone(cls: Any) -> None:
    torch.manual_seed(1)
    x, y = arrays(cls())
    state = torch.manual_seed(2).get_state()
    x_again, y_again = arrays(cls(split_seed=3))
    assert x.equal(x_again)
    assert y.equal(y_again)
    assert torch.get_rng_state().equal(state)
    assert not x.equal(arrays(cls(data_seed=1))[0])


def test_sizes_are_known_before_the_data_are_made() -> None:
    regression = SyntheticRegressionDataModule(in_features=6, out_features=2)
    assert (regression.input_shape, regression.out_features) == ((6,), 2)
    clusters = SyntheticClustersDataModule(in_features=6, num_classes=4)
    assert (clusters.input_shape, clusters.num_classes) == ((6,), 4)


def test_samples_held_out_are_counted_apart_from_the_test() -> None:
    dm = SyntheticClustersDataModule(num_samples=500, val_size=100)
    dm.setup()
    assert (len(dm.train_set), len(dm.val_set), len(dm.test_set)) == (400, 100, 1000)
