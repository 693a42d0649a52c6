"""Learning-rate schedules of resumed runs: past their end, as the user has chosen, and in the middle of an epoch."""

import math
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable
from torch.optim.lr_scheduler import LRScheduler

from leyden.errors import UserError
from leyden.lightning_internals import end_restart
from leyden.models.lr_schedules import LENGTHS, follows_run, given_length, length_argument, schedule_name, spanning
from leyden.models.task import Task

Choice = Literal["keep", "restart"]
LENGTH_OPTIONS = ("trainer.max_epochs", "trainer.max_steps")
UNLIMITED = (None, -1)
NEGLIGIBLE = 1e-3  # a last rate below this fraction of the highest one trains next to nothing


def check_schedule_end(
    model: LightningModule,
    checkpoint: dict[str, Any],
    changes: dict[str, tuple[Any, Any]],
    choice: Choice | None,
) -> None:
    """Refuse to train past the end of a schedule unless the user has chosen what follows.

    Args:
        model: The model. Unless it is a `Task`, which knows its schedule's class, a schedule that ends with the run is
            always refused.
        checkpoint: Where the run resumes; empty for a new run.
        changes: {option: (old value, new value)} of a resumed run.
        choice: `keep` the last rate, or `restart` the schedule for the rest of the run.

    Raises:
        UserError: The user has to choose, or the choice is impossible.
    """
    schedule = model.lr_scheduler if isinstance(model, Task) else None
    name = schedule_name(schedule) or "this model's schedule"
    if choice and not checkpoint:
        raise UserError(f"--lr_scheduler {choice} is for a run that goes on: leave it out, or give --ckpt_path")
    if choice and not length_argument(schedule):
        raise UserError(f"--lr_scheduler {choice} is for a schedule that has an end, and {name} has none: leave it out")
    longer = {
        option: (old, new)
        for option, (old, new) in changes.items()
        if option in LENGTH_OPTIONS and old not in UNLIMITED and (new in UNLIMITED or new > old)
    }
    if not isinstance(model, Task):
        for option, (old, new) in longer.items():
            for state in checkpoint["lr_schedulers"]:
                if "total_steps" in state or state.get("T_max") == old:
                    raise UserError(f"{option} was {old}, now {new}: but the schedule ends there; start a new run")
    if not isinstance(model, Task) or schedule is None:
        return
    raised = {option: pair for option, pair in longer.items() if _spans(model, schedule, checkpoint, option, *pair)}
    if choice == "restart" or (choice is None and not raised):
        return
    rates = _rates(model, schedule)
    if choice == "keep":
        if rates[-1] < NEGLIGIBLE * max(rates):
            raise UserError(
                f"--lr_scheduler keep: the last rate of {name} is {rates[-1]:.2g}, which trains next to nothing: "
                "take --lr_scheduler restart"
            )
        return
    option, (old, new) = next(iter(raised.items()))
    keep = f", --lr_scheduler keep goes on with its last rate, {rates[-1]:.2g}" * (rates[-1] >= NEGLIGIBLE * max(rates))
    raise UserError(
        f"{option} was {old}, now {new}: but {name} ended there: --lr_scheduler restart runs it again over the "
        f"rest{keep}; or start a new run"
    )


def _spans(
    model: Task, schedule: LRSchedulerCallable, checkpoint: dict[str, Any], option: str, old: Any, new: Any
) -> bool:
    """Return whether the schedule lasts until the old end of the run, but not until the new one."""
    if not length_argument(schedule):
        return False
    length = given_length(schedule)
    if follows_run(length):
        return True
    new = math.inf if new in UNLIMITED else new
    by_step, in_epochs = model.lr_interval == "step", option == "trainer.max_epochs"
    if by_step and in_epochs:  # convert by the steps per epoch so far
        steps_per_epoch = checkpoint["global_step"] / max(1, checkpoint["epoch"])
        old, new = old * steps_per_epoch, new * steps_per_epoch
    elif not by_step and not in_epochs:  # the number of epochs is unknown
        return False
    return bool(old <= (max(length) if isinstance(length, list) else length) < new)


def _rates(model: Task, schedule: LRSchedulerCallable, steps: int = 20) -> list[float]:
    """Return the learning rate of each step if the whole schedule takes `steps` steps."""
    parameters = [torch.nn.Parameter(torch.zeros(1, 1))]
    optimizer = torch.optim.SGD(parameters, lr=model.optimizer(parameters).defaults["lr"], momentum=0.9)
    stepped = schedule(optimizer, **spanning(schedule, steps))
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        stepped.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


class ResumedSchedule(Callback):
    """Replace the restored learning-rate schedule in a run that trains past its end.

    Args:
        choice: `keep` holds the rate that the schedule has at its end; `restart` runs the schedule again, from the
            optimizer's initial rate, over the rest of the run.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice

    def on_train_start(self, trainer: Trainer, pl_module: Task) -> None:  # type: ignore[override]
        """Replace the schedule that was restored."""
        for config in trainer.lr_scheduler_configs:
            if self.choice == "keep":
                config.scheduler = HoldLastRate(config.scheduler)  # type: ignore[assignment]
                continue
            # a group that fine-tuning has added since keeps its rate
            for group, lr in zip(config.scheduler.optimizer.param_groups, config.scheduler.base_lrs, strict=False):
                group["lr"] = lr
                group.pop("initial_lr", None)
            done = trainer.global_step if config.interval == "step" else trainer.current_epoch
            length = spanning(pl_module.lr_scheduler, int(pl_module.schedule_steps() - done))  # type: ignore[arg-type]
            config.scheduler = pl_module.lr_scheduler(config.scheduler.optimizer, **length)  # type: ignore[misc]


class ResumedPlateau(Callback):
    """Let ReduceLROnPlateau see the score of an epoch that was resumed in the middle, which Lightning would skip."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the run resumes."""
        self._first_step = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Treat the epoch like any other, unless nothing was left to train in it."""
        if trainer.global_step > self._first_step:
            end_restart(trainer)


class HoldLastRate:
    """Step a schedule until its end, then hold its rate.

    Args:
        schedule: The schedule, whose state is also the state of this object.
    """

    def __init__(self, schedule: LRScheduler) -> None:
        self.schedule, self.optimizer = schedule, schedule.optimizer
        length = getattr(schedule, LENGTHS[type(schedule).__name__])
        self.end = length if isinstance(length, int) else max(length)

    def step(self) -> None:
        """Step the schedule, unless it has ended."""
        if self.schedule.last_epoch < self.end:
            self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule's state."""
        state: dict[str, Any] = self.schedule.state_dict()
        return state
