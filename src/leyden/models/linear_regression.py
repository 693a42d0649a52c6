"""Linear regression, the smallest model."""

import math
from typing import Any

from torch import nn

from leyden.models.tasks import Regressor


class LinearRegression(Regressor):
    """One linear layer: y = xW + b, trained by gradient descent on the mean squared error.

    Args:
        kwargs: The arguments of `Regressor`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        in_features = math.prod(self.hparams["input_shape"])
        # (B, *input_shape) -> (B, in_features) -> (B, out_features)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(in_features, self.out_features))
