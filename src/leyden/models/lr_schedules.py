"""Learning-rate schedules that end with the run."""

import math
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from leyden.errors import UserError

LENGTHS = {  # {schedule: the argument that sets its end}
    "ConstantLR": "total_iters",
    "CosineAnnealingLR": "T_max",
    "LinearLR": "total_iters",
    "MultiStepLR": "milestones",
    "OneCycleLR": "total_steps",
    "PolynomialLR": "total_iters",
    "WarmupCosine": "total_steps",
}
Length = int | float | None | list[int | float]


class WarmupCosine(LRScheduler):
    """Rise linearly to the optimizer's rate, then fall to zero along half a cosine (Loshchilov and Hutter, 2017).

    Args:
        optimizer: The optimizer.
        warmup_steps: Steps of the rise.
        total_steps: All steps; null for those of the run.

    Raises:
        ValueError: `total_steps` is missing; a `Task` fills it in.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int = 0, total_steps: int | None = None) -> None:
        if total_steps is None:
            raise ValueError("WarmupCosine needs total_steps")
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Return the learning rate of each parameter group at the current step."""
        step = self.last_epoch
        if step < self.warmup_steps:
            factor = (step + 1) / (self.warmup_steps + 1)
        else:
            done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
            factor = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return [float(lr) * factor for lr in self.base_lrs]


def schedule_name(schedule: LRSchedulerCallable | None) -> str:
    """Return the name of a schedule's class, or an empty string if it is unknown."""
    # a partial of the class or, from jsonargparse, of a function whose first argument is the class
    parts = (getattr(schedule, "func", None), *getattr(schedule, "args", ()))
    return next((part.__name__ for part in parts if isinstance(part, type)), "")


def length_argument(schedule: LRSchedulerCallable | None) -> str | None:
    """Return the name of the argument that says when a schedule ends, or None if it has no end."""
    return LENGTHS.get(schedule_name(schedule))


def given_length(schedule: LRSchedulerCallable) -> Length:
    """Return the length that the user chose: steps, a share of the run (a float), or None for the whole run."""
    given = getattr(schedule, "keywords", {})
    if given.get("epochs") and given.get("steps_per_epoch"):  # of OneCycleLR, instead of total_steps
        return int(given["epochs"] * given["steps_per_epoch"])
    length: Length = given.get(length_argument(schedule))
    return length


def follows_run(length: Length) -> bool:
    """Return whether a length depends on that of the run."""
    return length is None or any(isinstance(part, float) for part in (length if isinstance(length, list) else [length]))


def length_in_run(schedule: LRSchedulerCallable, count_steps: Callable[[], float]) -> dict[str, Any]:
    """Return the argument that fits the length of a schedule to the run.

    Args:
        schedule: Class and arguments of the schedule.
        count_steps: Returns how often the run steps it; infinite or negative if that is unknown.

    Returns:
        {name: value}; empty if the schedule has no end, or the user has chosen a number of steps.

    Raises:
        UserError: A share is not between 0 and 1, or the run has no number of steps.
    """
    name = length_argument(schedule)
    if name is None or not follows_run(length := given_length(schedule)):
        return {}
    total = count_steps()
    if not 0 < total < math.inf:
        raise UserError(
            f"the schedule would end with the run, but nothing says after how many epochs or steps that ends: give "
            f"--model.lr_scheduler.{name}, or --trainer.max_epochs"
        )
    parts = length if isinstance(length, list) else [1.0 if length is None else length]
    if wrong := [part for part in parts if isinstance(part, float) and not 0 < part <= 1]:
        raise UserError(
            f"model.lr_scheduler.{name} {wrong[0]}: a share of the run is above 0 and at most 1.0, "
            "a number of epochs or steps has no decimal point"
        )
    steps = [max(1, round(part * total)) if isinstance(part, float) else part for part in parts]
    return {name: steps if isinstance(length, list) else steps[0]}


def spanning(schedule: LRSchedulerCallable, steps: int) -> dict[str, Any]:
    """Return the argument that makes a schedule last for `steps` steps, whatever the user has chosen."""
    name = length_argument(schedule)
    return {name: steps} if name not in (None, "milestones") else length_in_run(schedule, lambda: steps)


def schedule_steps(trainer: Trainer, interval: str) -> float:
    """Return how often a run steps its scheduler; infinite or negative if that is unknown.

    Args:
        trainer: The Trainer of the run, while it fits.
        interval: `epoch` or `step`.
    """
    if interval == "step":
        return trainer.estimated_stepping_batches
    if trainer.max_steps == -1:
        return -1 if trainer.max_epochs is None else trainer.max_epochs
    if trainer.train_dataloader is None:
        trainer.fit_loop.setup_data()  # counts the batches, as `estimated_stepping_batches` does
    if trainer.num_training_batches == math.inf:
        return 1
    steps_per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return math.ceil(trainer.estimated_stepping_batches / steps_per_epoch)
