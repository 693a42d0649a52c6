"""Two linear layers with an activation, the smallest network that is not linear."""

import math
from collections import OrderedDict
from typing import Any

from torch import nn

from leyden.models.tasks import Regressor


class TwoLayerRegression(Regressor):
    """Linear, clamp at 0, Linear: y = max(0, xW1 + b1) W2 + b2, trained on the mean squared error.

    Clamping at 0 is the activation ReLU (Nair and Hinton, 2010). With enough hidden features such a network
    approximates any continuous function on a bounded region to any accuracy (Leshno et al., 1993).

    Args:
        hidden_features: Width of the hidden layer.
        kwargs: The arguments of `Regressor`.
    """

    def __init__(self, hidden_features: int = 100, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),  # (B, *input_shape) -> (B, in_features)
                hidden=nn.Linear(math.prod(self.hparams["input_shape"]), hidden_features),
                clamp=nn.ReLU(),  # x.clamp(min=0) as a layer
                head=nn.Linear(hidden_features, self.out_features),  # (B, out_features)
            )
        )
