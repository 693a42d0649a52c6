"""Build the optimizer and the schedule before a run, and step the schedule to its end."""

import inspect
import logging
import math
import warnings
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.utilities import rank_zero_only
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from leyden.cli.messages import reason
from leyden.errors import UserError
from leyden.models.lr_schedules import follows_run, given_length, length_argument, length_in_run
from leyden.models.task import Task

log = logging.getLogger(__name__)


def check_optimizer(trainer: Trainer, model: LightningModule, batches: int | None = None) -> None:
    """Build optimizer and schedule as `configure_optimizers` does, and step the schedule to the run's end.

    Args:
        trainer: The Trainer.
        model: The model; it is not checked where it overrides `configure_optimizers`.
        batches: Number of training batches in an epoch; None if not known.

    Raises:
        UserError: The optimizer or the schedule cannot be built, or the schedule ends before the run.
    """
    if not isinstance(model, Task) or type(model).configure_optimizers is not Task.configure_optimizers:
        return
    optimizer = model.optimizer(parameter for parameter in model.parameters() if parameter.requires_grad)
    if model.lr_scheduler is None:
        return
    steps = _schedule_steps(trainer, model.lr_interval, batches)
    if steps is None and length_argument(model.lr_scheduler) and follows_run(given_length(model.lr_scheduler)):
        return
    schedule = model.lr_scheduler(optimizer, **length_in_run(model.lr_scheduler, lambda: steps or math.inf))
    _warn_of_unused_options(optimizer, schedule)
    if isinstance(schedule, ReduceLROnPlateau):
        _check_plateau(trainer, model, schedule, batches)
    else:
        _check_steps(schedule, steps, getattr(model.lr_scheduler, "keywords", {}), model.lr_interval)


def _warn_of_unused_options(optimizer: Optimizer, schedule: LRScheduler) -> None:
    """Warn of options of the optimizer that a cyclic schedule replaces."""
    if not isinstance(schedule, (OneCycleLR, CyclicLR)):
        return
    cycled = ["lr"]
    if schedule.cycle_momentum:
        cycled.append("betas" if "betas" in optimizer.defaults else "momentum")
    parameters = inspect.signature(type(optimizer)).parameters
    given = [
        f"{name} {optimizer.defaults[name]}" for name in cycled if optimizer.defaults[name] != parameters[name].default
    ]
    if given:
        rank_zero_only(log.warning)(
            "%s sets %s itself: the optimizer's %s is not used",
            type(schedule).__name__,
            " and ".join(cycled),
            " and ".join(given),
        )


def _schedule_steps(trainer: Trainer, interval: str, batches: int | None) -> int | None:
    """Return how often a run steps its schedule, None where that is not known before the run."""
    epochs = None if trainer.max_epochs in (None, -1) else trainer.max_epochs
    if interval == "epoch":
        return epochs
    changes = any(isinstance(c, GradientAccumulationScheduler) for c in trainer.callbacks)  # type: ignore[attr-defined]
    if batches is None or epochs is None or changes:
        return trainer.max_steps if trainer.max_steps > 0 else None
    steps = math.ceil(limited(batches, trainer.limit_train_batches) / trainer.accumulate_grad_batches) * epochs
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def _check_steps(schedule: LRScheduler, steps: int | None, arguments: dict[str, Any], interval: str) -> None:
    """Refuse a schedule that raises at the first or last step of the run; warn of a cosine that rises again."""
    if steps is not None and isinstance(schedule, CosineAnnealingLR) and schedule.T_max < steps:
        rank_zero_only(log.warning)(
            "CosineAnnealingLR(T_max=%d) falls for %d of %d %ss, then rises again: leave T_max out to end with the run",
            schedule.T_max,
            schedule.T_max,
            steps,
            interval,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its optimizer is never stepped
            schedule.step()
            if steps is not None:
                schedule.last_epoch = steps - 1  # the name by which schedules count their steps
                schedule.step()
    except Exception as error:
        needed = [p.name for p in inspect.signature(type(schedule)).parameters.values() if p.default is p.empty]
        given = ", ".join(f"{name}={arguments[name]}" for name in needed if name in arguments)
        length = f", but the run has {steps} {interval}s" if hasattr(schedule, "total_steps") else ""
        raise UserError(f"{type(schedule).__name__}({given}): {reason(error)}{length}") from error


def _check_plateau(trainer: Trainer, model: Task, schedule: ReduceLROnPlateau, batches: int | None) -> None:
    """Refuse a schedule whose score is not known when it is stepped."""
    monitor = getattr(schedule, "monitor", None)
    if monitor is None:
        raise UserError(
            "torch's ReduceLROnPlateau does not name the score that it monitors: use lightning.pytorch.cli."
            "ReduceLROnPlateau, with --model.lr_scheduler.monitor val/loss"
        )
    if model.lr_interval == "step" and not monitor.endswith("_step"):
        raise UserError(
            f"ReduceLROnPlateau monitors {monitor}, which is known once an epoch: set --model.lr_interval epoch"
        )
    every = trainer.val_check_interval
    if trainer.check_val_every_n_epoch is None and batches is not None and monitor.startswith("val/"):
        batches = limited(batches, trainer.limit_train_batches)
        if isinstance(every, int) and every > batches:
            raise UserError(
                f"ReduceLROnPlateau monitors {monitor} at the end of each epoch, but {batches} batches have no "
                f"validation with --trainer.val_check_interval {every}: set --trainer.val_check_interval {batches}"
            )


def limited(count: int, limit: float) -> int:
    """Return how many of `count` batches a limit of the Trainer leaves."""
    return min(count, limit) if isinstance(limit, int) else int(count * limit)
