"""Every use of a private name of Lightning or torchmetrics: what for, and why no public way does it.

Each has a contract test in tests/test_lightning_internals.py.
"""

from typing import Any

from lightning.pytorch import Trainer
from torchmetrics import Metric


def epoch_results(trainer: Trainer) -> dict[str, Any]:
    """Return what the training steps of this epoch have logged with `on_epoch=True`, by key, as torchmetrics.

    For: the scores of a resumed epoch, which must cover the batches before the checkpoint too.
    Why: `trainer.callback_metrics` and its like have the values of the last step, without the running sums and counts.
    """
    results = trainer.fit_loop.epoch_loop._results
    return {key: item for key, item in results.items() if item.is_tensor and item.meta.on_epoch and not item.has_reset}


def end_restart(trainer: Trainer) -> None:
    """Tell Lightning that the epoch it has resumed in the middle is now like any other.

    For: ReduceLROnPlateau, which Lightning does not step at the end of a resumed epoch.
    Why: the public setter sets the inner loops as well, and where `max_steps` is set it sets True instead of False;
    Lightning would then repeat the epoch's validation.
    """
    trainer.fit_loop._restarting = False


def set_update_count(metric: Metric, count: int) -> None:
    """Set how often a torchmetric was updated, after its states have been restored.

    For: means that are weighted by that count, and the warning of `compute` before any update.
    Why: `update_count` of torchmetrics is read-only, and `state_dict` does not hold it.
    """
    metric._update_count = count
