"""Every use of what Lightning and others do not make public, or do in a way that has to be worked around.

Each says what it is for and why no public way does it; tests/test_lightning_internals.py fails when a new version
changes what it relies on.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from multiprocessing.queues import Queue
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch._utils import ExceptionWrapper
from torch.distributed.constants import default_pg_timeout
from torch.optim import Optimizer
from torch.utils.data import get_worker_info
from torchmetrics import Metric


@contextmanager
def loaders_not_called() -> Iterator[None]:
    """Keep `str(datamodule)` from calling the loaders of a DataModule before its `setup`.

    For each argument link whose source is missing, jsonargparse 4.53 formats a debug message with `str(datamodule)`,
    and Lightning 2.6's `LightningDataModule.__str__` calls all four loaders; it raises where they return a dict or
    None.
    """
    original = LightningDataModule.__str__
    LightningDataModule.__str__ = object.__str__  # type: ignore[method-assign]
    try:
        yield
    finally:
        LightningDataModule.__str__ = original  # type: ignore[method-assign]


def starts_by_multiprocessing(trainer: Trainer) -> bool:
    """Return whether the strategy spawns or forks its processes, instead of starting a command for each.

    `DDPStrategy` keeps its `start_method` in a private attribute, and the class of its launcher has no public name.
    """
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def rendezvous_timeout(trainer: Trainer) -> timedelta:
    """Return how long the processes of a run wait for each other at the start.

    Strategies take a `timeout`, but keep it in a private attribute; None is torch's default.
    """
    return getattr(trainer.strategy, "_timeout", None) or default_pg_timeout


def send_worker_errors() -> None:
    """Raise in the run why a DataLoader worker cannot send a batch, for example because /dev/shm is full.

    The thread of the worker that sends batches only prints such an error, and the run would wait for the batch
    forever. Python calls `Queue._on_queue_feeder_error`, private, in that thread, and torch raises an
    `ExceptionWrapper` of torch._utils, private, that it receives instead of a batch; neither has a public hook. The
    change is global, for workers of any DataLoader that are forked afterwards.
    """
    Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]


_print_error = Queue._on_queue_feeder_error  # type: ignore[attr-defined]


def _send_error(queue: Any, error: Exception, item: Any) -> None:
    if (worker := get_worker_info()) is None:
        _print_error(error, item)
    else:
        where = f"in DataLoader worker process {worker.id}"
        queue.put((item[0], ExceptionWrapper(where=where)))  # type: ignore[no-untyped-call]


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


def unscale_before_clipping(optimizer: Optimizer) -> None:
    """Make a fused optimizer take gradients that are already divided by the loss scale (private in torch).

    Its kernel can divide them itself, which is after any clipping. torch's GradScaler and Lightning's check before
    clipping both read this attribute; torch has no argument for it.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]


def kill_wandb_service() -> bool:
    """Kill the process to which wandb sends what is logged, and return whether there was one (private in wandb).

    wandb 0.31 has no public way to end a process that does not answer. There is none to kill before the first run,
    nor if another program started it.
    """
    from wandb.sdk import wandb_setup

    service = wandb_setup.singleton()._connection
    if service is None or service._proc is None:
        return False
    service._proc._process.kill()
    return True


@cache
def skip_wandb_launch() -> None:
    """Keep wandb from importing W&B Launch at the start of a run (private in wandb).

    It looks for the inputs of a launched job: 0.9 CPU seconds, half of the start. Only functions of that package can
    set such inputs, so there are none before it is imported. wandb 0.31 has no setting for it (its issue 5440).
    """
    from wandb.sdk.wandb_run import Run

    apply_inputs = getattr(Run, "_detect_and_apply_job_inputs", None)
    if apply_inputs is None:  # a newer wandb starts without
        return

    def apply_staged_inputs(run: Run) -> None:
        if "wandb.sdk.launch" in sys.modules:
            apply_inputs(run)

    Run._detect_and_apply_job_inputs = apply_staged_inputs  # type: ignore[assignment,method-assign]
