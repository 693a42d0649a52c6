"""Training metrics of an unfinished epoch: save them in the checkpoint, and continue from them after a resume."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor, nn
from torchmetrics import Metric

from leyden.lightning_internals import epoch_results, set_update_count
from leyden.runs.ranks import gather_object

CHECKPOINT_KEY = "epoch_so_far"


class EpochSoFar(Callback):
    """Save the states of training metrics and of `self.log(..., on_epoch=True)`, and continue from them after a resume.

    Lightning resets both, so the scores of a resumed epoch would cover only the rest of it. The metrics are those among
    the submodules of a LightningModule, and what its `training_metrics()` returns, if it has that method. What a module
    keeps in plain attributes, such as a list of losses, is not saved.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {"metrics": {}, "logged": {}}
        self._pending: dict[str, dict[str, Tensor]] = {}  # by key, until a step logs under that key again

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the states of all ranks (a collective)."""
        state = {
            "metrics": {
                name: {"count": metric.update_count, "state": metric.metric_state}
                for name, metric in _metrics(pl_module).items()
                if metric.update_called
            },
            "logged": self._pending | {key: dict(item.metric_state) for key, item in epoch_results(trainer).items()},
        }
        states = gather_object(trainer, move_data_to_device(state, "cpu") if trainer.world_size > 1 else state)
        if any(part for rank in states for part in rank.values()):
            checkpoint[CHECKPOINT_KEY] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the state of this rank, if the checkpoint is from the middle of an epoch."""
        if checkpoint.get("batches_done") and CHECKPOINT_KEY in checkpoint:
            self._loaded = checkpoint[CHECKPOINT_KEY][trainer.global_rank]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the states of the metrics."""
        metrics = _metrics(pl_module)
        for name, saved in self._loaded["metrics"].items():
            for attribute, value in saved["state"].items():
                setattr(metrics[name], attribute, move_data_to_device(value, pl_module.device))
            set_update_count(metrics[name], saved["count"])
        self._pending = move_data_to_device(self._loaded["logged"], pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add what was logged before the checkpoint to what the first step after it has logged.

        The sum of two numbers does not depend on their order, so the bits are those of a run without a resume.
        """
        if not self._pending:
            return
        for key, item in epoch_results(trainer).items():
            for name, saved in self._pending.pop(key, {}).items():
                extreme = item.meta.is_max_reduction or item.meta.is_min_reduction
                reduce = item.meta.reduce_fx if extreme else torch.add
                setattr(item, name, reduce(getattr(item, name), saved))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what was not logged again."""
        self._pending = {}


def _metrics(module: LightningModule) -> dict[str, Metric]:
    """Return all torchmetrics that a module updates in training, by name."""
    roots: dict[str, nn.Module] = {"": module}
    if hasattr(module, "training_metrics"):
        roots |= module.training_metrics()  # type: ignore[operator]
    return {
        name: child
        for prefix, root in roots.items()
        for name, child in root.named_modules(prefix=prefix)
        if isinstance(child, Metric)
    }
