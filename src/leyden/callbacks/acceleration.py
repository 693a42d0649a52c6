"""Faster kernels for a network that stays as it is; each has its overlay in configs/with/."""

from typing import Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn


class Compile(Callback):
    """Compile `network` by torch.compile when training starts, which takes a while and pays in long runs.

    Checkpoints are those of the network that is not compiled. Each shape of a batch is compiled by itself.

    Args:
        mode: As in torch.compile; `max-autotune-no-cudagraphs` searches longer for faster kernels.
    """

    def __init__(self, mode: Literal["default", "max-autotune-no-cudagraphs"] = "default") -> None:
        self.mode = mode

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compile at the first batch of each shape."""
        assert isinstance(pl_module.network, nn.Module)
        pl_module.network.compile(mode=self.mode)


class ChannelsLast(Callback):
    """Hold the weights of convolutions in channels-last order, which their outputs then take over."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rearrange the weights; their values, and the order of a checkpoint's numbers, stay."""
        assert isinstance(pl_module.network, nn.Module)
        pl_module.network.to(memory_format=torch.channels_last)
