"""Faster kernels for an unchanged network; each callback has an overlay in configs/with/."""

from typing import Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn


class Compile(Callback):
    """Compile `network` with torch.compile when training starts. It takes a while, so it pays in long runs.

    Checkpoints have the names of the network without compilation. Each batch shape is compiled separately.

    Args:
        mode: As in torch.compile; `max-autotune-no-cudagraphs` searches longer for faster kernels.
    """

    def __init__(self, mode: Literal["default", "max-autotune-no-cudagraphs"] = "default") -> None:
        self.mode = mode

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the network for compilation at the first batch of each shape."""
        assert isinstance(pl_module.network, nn.Module)
        pl_module.network.compile(mode=self.mode)


class ChannelsLast(Callback):
    """Store the weights of convolutions in channels-last order; their outputs then have the same order."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rearrange the weights in memory; their values and checkpoints do not change."""
        assert isinstance(pl_module.network, nn.Module)
        pl_module.network.to(memory_format=torch.channels_last)
