"""The small convolutional network that PyTorch courses train on MNIST."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn

from leyden.models.tasks import Classifier


class ConvNet(Classifier):
    """Two 5x5 convolutions with max-pooling and dropout, then two linear layers.

    On 1x28x28 images it has 21 840 parameters. The structure goes back to LeNet-5 (LeCun et al., 1998), with
    max-pooling, ReLU and dropout (Srivastava et al., 2014) instead of its older parts. Images need at least
    16x16 pixels.

    Args:
        activation: Class of the activation, with its arguments.
        dropout: Probability of dropping a channel after the second convolution, and a feature before the head.
        kwargs: The arguments of `Classifier`.
    """

    def __init__(
        self,
        activation: Callable[[], nn.Module] = nn.ReLU,
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        in_channels, *sides = self.hparams["input_shape"]
        height, width = (((side - 4) // 2 - 4) // 2 for side in sides)  # after both convolutions and poolings
        self.network = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(in_channels, 10, kernel_size=5),  # (B, C, 28, 28) -> (B, 10, 24, 24)
                pool1=nn.MaxPool2d(2),  # (B, 10, 12, 12)
                activation1=activation(),
                conv2=nn.Conv2d(10, 20, kernel_size=5),  # (B, 20, 8, 8)
                dropout2=nn.Dropout2d(dropout),
                pool2=nn.MaxPool2d(2),  # (B, 20, 4, 4)
                activation2=activation(),
                flatten=nn.Flatten(),  # (B, 320)
                hidden=nn.Linear(20 * height * width, 50),
                activation3=activation(),
                dropout3=nn.Dropout(dropout),
                head=nn.Linear(50, self.num_classes),  # logits (B, num_classes)
            )
        )
