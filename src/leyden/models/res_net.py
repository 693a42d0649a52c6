"""A residual network for small images."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from leyden.models.tasks import Classifier


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, to whose output the input is added: y = ReLU(x + F(x)) (He et al., 2016).

    If the shape changes, the input goes through a 1x1 convolution.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Step of the first convolution: 2 halves height and width.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),  # batch-norm adds the bias
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        # so that a block is the identity at first (Goyal et al., 2017)
        nn.init.zeros_(self.residual[-1].weight)  # type: ignore[arg-type]
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H / stride, W / stride)."""
        return torch.relu(self.shortcut(x) + self.residual(x))


class ResNet(Classifier):
    """A residual network with a 3x3 stem that keeps the resolution of small images (He et al., 2016).

    The first stage has the images' height and width, each further stage half of that before it. With widths 64, 128,
    256 and 512 and two blocks per stage it is ResNet-18 for CIFAR-10, 11 173 962 parameters. Weights and images are in
    channels-last order, in which convolutions are faster on most hardware; the results are the same.

    Args:
        widths: Channels of each stage.
        blocks_per_stage: Number of residual blocks in each stage.
        kwargs: The arguments of `Classifier`.
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512), blocks_per_stage: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        in_channels = self.hparams["input_shape"][0]
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv=nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False),  # (B, C, H, W) -> (B, widths[0], H, W)
            norm=nn.BatchNorm2d(widths[0]),
            activation=nn.ReLU(),
        )
        for stage, (before, width) in enumerate(pairwise([widths[0], *widths]), start=1):
            blocks = [BasicBlock(before, width, stride=1 if stage == 1 else 2)]
            blocks += [BasicBlock(width, width, stride=1) for _ in range(blocks_per_stage - 1)]
            layers[f"stage{stage}"] = nn.Sequential(*blocks)  # height and width halve from the second stage on
        layers["pool"] = nn.AdaptiveAvgPool2d(1)  # (B, widths[-1], 1, 1)
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(widths[-1], self.num_classes)  # logits (B, num_classes)
        self.network = nn.Sequential(layers).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        return super().forward(x.contiguous(memory_format=torch.channels_last))
