"""The multi-layer perceptron, for images (flattened) and for vectors."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from leyden.models.tasks import Classifier


class MLP(Classifier):
    """Fully connected layers with an activation after each but the last.

    With the defaults and MNIST: flatten, Linear(784, 128), ReLU, Linear(128, 10), 101 770 parameters.

    Args:
        hidden_sizes: Width of each hidden layer; an empty list is multinomial logistic regression.
        activation: Class of the activation, with its arguments.
        kwargs: The arguments of `Classifier`.
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (128,),
        activation: Callable[[], nn.Module] = nn.ReLU,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = [math.prod(self.hparams["input_shape"]), *hidden_sizes]
        layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())  # (B, ...) -> (B, sizes[0])
        for i, (in_features, out_features) in enumerate(pairwise(sizes), start=1):
            layers[f"hidden{i}"] = nn.Linear(in_features, out_features)
            layers[f"activation{i}"] = activation()
        layers["head"] = nn.Linear(sizes[-1], self.num_classes)  # logits (B, num_classes)
        self.network = nn.Sequential(layers)
