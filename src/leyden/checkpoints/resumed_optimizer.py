"""Adapt a restored optimizer to what has changed since the checkpoint."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class ChangedOptimizer(Callback):
    """Replace saved arguments of the optimizer by those that the user has changed, which Lightning would ignore.

    A new learning rate scales the rate that a schedule has reached.

    Args:
        changes: {option: (old value, new value)}.
    """

    def __init__(self, changes: dict[str, tuple[Any, Any]]) -> None:
        prefix = "model.optimizer."
        self.changes = {key.removeprefix(prefix): pair for key, pair in changes.items() if key.startswith(prefix)}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the new arguments."""
        old, new = self.changes.pop("lr", (1.0, 1.0))
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group |= {name: value for name, (_, value) in self.changes.items()}
                group |= {name: group[name] * new / old for name in ("lr", "initial_lr") if name in group}
            if self.changes:
                optimizer.load_state_dict(optimizer.state_dict())  # a fused one needs `step` on the weights' device
        for config in trainer.lr_scheduler_configs:
            if hasattr(config.scheduler, "base_lrs"):
                config.scheduler.base_lrs = [lr * new / old for lr in config.scheduler.base_lrs]


class StateMemoryFormat(Callback):
    """Give the restored state of an optimizer the memory format of its weights, which `channels_last` may have changed.

    torch's fused kernels on a CPU read weights and state in the order of memory, so that with two formats they would
    pair the wrong numbers.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the tensors whose strides differ from those of their weight."""
        for optimizer in trainer.optimizers:
            for weight, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                        state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
