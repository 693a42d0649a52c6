"""Epoch scores of any LightningModule across a resume in the middle of an epoch."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

CHECKPOINT_KEY = "epoch_so_far"


class EpochSoFar(Callback):
    """Save what `self.log(..., on_epoch=True)` and the module's metrics hold of the epoch so far, and go on from there.

    Lightning starts both anew, so the scores of a resumed epoch would be of its rest. What a module keeps itself, in a
    list for instance, is not saved.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {"metrics": {}, "logged": {}}
        self._pending: dict[str, dict[str, Tensor]] = {}  # by what the step logs, until it has logged it again

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the states of all ranks."""
        # there is no public way to what has been logged in an epoch that is not over
        logged = trainer.fit_loop.epoch_loop._results.items()
        state = {
            "metrics": {
                name: {"count": module.update_count, "state": module.metric_state}
                for name, module in pl_module.named_modules()
                if isinstance(module, Metric) and module.update_called
            },
            "logged": self._pending
            | {
                key: dict(item.metric_state)
                for key, item in logged
                if item.is_tensor and item.meta.on_epoch and not item.has_reset
            },
        }
        states: list[Any] = [state]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, state)
        if any(part for rank in states for part in rank.values()):
            checkpoint[CHECKPOINT_KEY] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the state of this rank, if the checkpoint is of the middle of an epoch."""
        if checkpoint.get("batches_done") and CHECKPOINT_KEY in checkpoint:
            self._loaded = checkpoint[CHECKPOINT_KEY][trainer.global_rank]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the metrics their states."""
        modules = dict(pl_module.named_modules())
        for name, saved in self._loaded["metrics"].items():
            metric: Any = modules.get(name)
            for attribute, value in saved["state"].items():
                setattr(metric, attribute, _on(pl_module.device, value))
            metric._update_count = saved["count"]  # or `compute` warns that there was no update
        self._pending = {
            key: {name: value.to(pl_module.device) for name, value in state.items()}
            for key, state in self._loaded["logged"].items()
        }
        if not self._pending:
            self.on_train_batch_end = None  # type: ignore[method-assign, assignment]  # Lightning passes over it

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add what was logged before to what the first step after it has logged: the order of a sum of two is free."""
        results = trainer.fit_loop.epoch_loop._results
        for key in [key for key in self._pending if key in results]:
            item, saved = results[key], self._pending.pop(key)
            for name, value in saved.items():
                now = getattr(item, name)
                reduce = item.meta.reduce_fx if item.meta.is_max_reduction or item.meta.is_min_reduction else torch.add
                setattr(item, name, reduce(now, value))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what has not been logged again."""
        self._pending = {}


def _on(device: torch.device, value: Any) -> Any:
    """Return a metric's state, a tensor or a list of them, on a device."""
    return value.to(device) if isinstance(value, Tensor) else [item.to(device) for item in value]
