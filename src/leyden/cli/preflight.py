"""Refuse a run before any training time is spent and before other processes are started.

No check changes a random state or the model, so the results of a run are bit for bit the same without them.
"""

import logging
import math
from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng

from leyden.callbacks.monitored_scores import check_names, monitors
from leyden.cli.check_hardware import check_disk
from leyden.cli.check_model import check_model_fits_data, check_step, first_samples
from leyden.cli.check_schedule import check_optimizer, limited
from leyden.data.split_loaders import SplitLoaders
from leyden.errors import UserError
from leyden.models.task import Task

log = logging.getLogger(__name__)


def check_evaluation(trainer: Trainer, model: LightningModule, data: LightningDataModule | None, split: str) -> None:
    """Refuse to evaluate zero batches.

    Args:
        trainer: The Trainer.
        model: The model.
        data: The data; None where the model has its own loaders.
        split: `val`, `test` or `predict`.

    Raises:
        UserError: The limit of the split is 0, or the model or the data lack a method for it.
    """
    if getattr(trainer, f"limit_{split}_batches") == 0:
        raise UserError(f"--trainer.limit_{split}_batches is 0, so there is nothing to do: leave it out")
    if missing := missing_for(model, data, split):
        raise UserError(f"{missing}, so there is nothing to {'validate' if split == 'val' else split}")


def missing_for(model: LightningModule, data: LightningDataModule | None, split: str) -> str:
    """Name the method that the model or the data need to evaluate a split, and do not have.

    Args:
        model: The model.
        data: The data; None where the model has its own loaders.
        split: `val`, `test` or `predict`.

    Returns:
        A message such as `MLP has no test_step`, or an empty string if nothing is missing.
    """
    step = "validation_step" if split == "val" else f"{split}_step"
    if not is_overridden(step, model) and not (split == "predict" and is_overridden("forward", model)):
        return f"{type(model).__name__} has no {step}"
    if not any(is_overridden(f"{split}_dataloader", source) for source in (data, model)):
        return f"{type(data or model).__name__} has no {split}_dataloader"
    return ""


def check_fit(trainer: Trainer, model: LightningModule, data: LightningDataModule, directory: Path) -> None:
    """Refuse a training run that could not start or could not reach its end.

    Samples are checked only of `SplitLoaders` that do not override `prepare_data`, and a training step only of
    a `Task`, on the device where the model was constructed. The sampler checks the samples of later epochs.

    Args:
        trainer: The Trainer, before `fit`.
        model: The model, still on the device where it was constructed.
        data: The data.
        directory: The run's directory.

    Raises:
        UserError: The run is refused; the message says what to change.
    """
    for option in ("max_epochs", "max_steps"):
        if getattr(trainer, option) == 0:
            raise UserError(f"--trainer.{option} is 0: no step would be trained")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"{type(model).__name__} has no parameter to train")
    _check_monitors(trainer, model)
    check_disk(trainer, model, directory)
    if not isinstance(data, SplitLoaders) or type(data).prepare_data is not LightningDataModule.prepare_data:
        check_optimizer(trainer, model)
        check_model_fits_data(model, data)
        return
    data.trainer = trainer  # as in `fit`: its device and number of processes matter
    data.setup("fit")  # `fit` calls it again, which does nothing
    with isolate_rng(include_cuda=False):
        train, val = data.train_dataloader(), data.val_dataloader()
        _check_batches(trainer, len(train), len(val))
        batch = first_samples(train, trainer)
        check_optimizer(trainer, model, len(train))
        if isinstance(model, Task):
            check_step(trainer, model, data, batch)
        else:
            check_model_fits_data(model, data)
    data.trainer = None


def _check_monitors(trainer: Trainer, model: LightningModule) -> None:
    """Refuse early stopping and schedules whose score is misspelt, or belongs to a validation that never runs.

    For a checkpoint, warn only.
    """
    if isinstance(model, Task):
        check_names(trainer, model)
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    if trainer.limit_val_batches == 0:
        why = "--trainer.limit_val_batches is 0"
    elif every is not None and epochs is not None and 0 < epochs < every:
        why = f"--trainer.check_val_every_n_epoch is {every}, after the last of {epochs} epochs"
    else:
        return
    for name, part, monitor in monitors(trainer, model):
        if not monitor.startswith("val"):
            continue
        if not isinstance(part, Checkpoint):
            raise UserError(f"{name} monitors {monitor}, but there is no validation: {why}")
        rank_zero_only(log.warning)("no validation (%s), so no checkpoint is selected by %s", why, monitor)


def _check_batches(trainer: Trainer, train: int, val: int) -> None:
    """Refuse limits that leave no batch."""
    for split, count in (("train", train), ("val", val)):
        limit = getattr(trainer, f"limit_{split}_batches")
        left = limited(count, limit)
        if left == 0 and (split == "train" or limit > 0):  # 0 switches validation off
            raise UserError(
                f"--trainer.limit_{split}_batches {limit} leaves none of {count} batches: raise it"
                + (f" to {math.ceil(1000 / count) / 1000} or more" if limit else "")
            )
        if split == "train":
            every = getattr(trainer, "val_check_interval", None)  # Lightning has no such attribute where it is a time
            by_epoch = trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches > 0
            if isinstance(every, int) and every > left and by_epoch:
                raise UserError(
                    f"--trainer.val_check_interval is {every}, but an epoch has {left} batches: lower it, or "
                    "set --trainer.check_val_every_n_epoch null to count across epochs"
                )
