"""Data from known parameters, with which those of a trained model can be compared."""

from typing import Any

import torch

from leyden.data.datamodules import ArrayDataModule, Batch
from leyden.data.seeds import derive_seed

TEST_SIZE = 1000


class SyntheticRegressionDataModule(ArrayDataModule):
    """Regression with known weights: `y = x W^T + b + noise`, or `y = sin(x W^T + b) + noise`.

    `weight` (out_features, in_features) and `bias` (out_features,) are W and b. Another 1 000 samples are the test set.

    Args:
        in_features: Numbers in x.
        out_features: Numbers in y.
        noise: Standard deviation of the normal noise on y.
        num_samples: Number of training samples, including those held out for validation.
        data_seed: Seed of W, b, x and the noise.
        nonlinear: Whether the target is the sine.
        val_size: Number of training samples to hold out for validation.
        kwargs: The options of `ArrayDataModule`.
    """

    def __init__(
        self,
        in_features: int = 10,
        out_features: int = 1,
        noise: float = 0.1,
        num_samples: int = 5000,
        data_seed: int = 0,
        nonlinear: bool = False,
        val_size: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(val_size=val_size, **kwargs)
        self.input_shape = (in_features,)
        self.out_features = out_features
        self.noise = noise
        self.num_samples = num_samples
        self.data_seed = data_seed
        self.nonlinear = nonlinear
        generator = torch.Generator().manual_seed(data_seed)
        self.weight = torch.randn(out_features, in_features, generator=generator) / in_features**0.5
        self.bias = torch.randn(out_features, generator=generator)

    def load_arrays(self) -> tuple[Batch, Batch]:
        """Return inputs (N, in_features) and targets (N, out_features)."""
        generator = torch.Generator().manual_seed(derive_seed(self.data_seed, 0))  # not the numbers of the weights
        x = torch.randn(self.num_samples + TEST_SIZE, *self.input_shape, generator=generator)
        y = x @ self.weight.T + self.bias
        if self.nonlinear:
            y = y.sin()
        y += self.noise * torch.randn(y.shape, generator=generator)
        n = self.num_samples
        return (x[:n], y[:n]), (x[n:], y[n:])


class SyntheticClustersDataModule(ArrayDataModule):
    """Classification of points around known centers, `centers` (num_classes, in_features).

    Another 1 000 samples are the test set.

    Args:
        in_features: Numbers in x.
        num_classes: Number of clusters.
        spread: Standard deviation of the normal distribution of the centers.
        noise: Standard deviation of the points around their center.
        num_samples: Number of training samples, including those held out for validation.
        data_seed: Seed of the centers, the labels and the points.
        val_size: Number of training samples to hold out for validation.
        kwargs: The options of `ArrayDataModule`.
    """

    def __init__(
        self,
        in_features: int = 10,
        num_classes: int = 10,
        spread: float = 3.0,
        noise: float = 1.0,
        num_samples: int = 5000,
        data_seed: int = 0,
        val_size: int = 1000,
        **kwargs: Any,
    ) -> None:
        super().__init__(val_size=val_size, **kwargs)
        self.input_shape = (in_features,)
        self.num_classes = num_classes
        self.noise = noise
        self.num_samples = num_samples
        self.data_seed = data_seed
        generator = torch.Generator().manual_seed(data_seed)
        self.centers = spread * torch.randn(num_classes, in_features, generator=generator)

    def load_arrays(self) -> tuple[Batch, Batch]:
        """Return points (N, in_features) and the indices of their centers (N,)."""
        generator = torch.Generator().manual_seed(derive_seed(self.data_seed, 0))  # not the numbers of the centers
        n = self.num_samples
        y = torch.randint(self.num_classes, (n + TEST_SIZE,), generator=generator)
        x = self.centers[y] + self.noise * torch.randn(len(y), *self.input_shape, generator=generator)
        return (x[:n], y[:n]), (x[n:], y[n:])
