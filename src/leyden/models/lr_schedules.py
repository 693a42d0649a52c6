"""Learning-rate schedules that are as long as their run: torch's, and one that torch does not have as one class."""

import math
from collections.abc import Callable
from typing import Any

from lightning.pytorch.cli import LRSchedulerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from leyden.errors import UserError

LENGTHS = {  # the argument that says when a schedule ends
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
        total_steps: Steps in all; null for those of the run.

    Raises:
        ValueError: It is used without a `Task`, which would have filled in `total_steps`.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int = 0, total_steps: int | None = None) -> None:
        if total_steps is None:
            raise ValueError("WarmupCosine needs total_steps")
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """Return the rate of each parameter group at the present step."""
        step = self.last_epoch
        if step < self.warmup_steps:
            factor = (step + 1) / (self.warmup_steps + 1)
        else:
            done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
            factor = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return [float(lr) * factor for lr in self.base_lrs]


def schedule_name(schedule: LRSchedulerCallable | None) -> str:
    """Return the name of a schedule's class; empty where it is not known."""
    # a partial of the class, or as jsonargparse makes it, of a function whose first argument is the class
    parts = (getattr(schedule, "func", None), *getattr(schedule, "args", ()))
    return next((part.__name__ for part in parts if isinstance(part, type)), "")


def length_argument(schedule: LRSchedulerCallable | None) -> str | None:
    """Return the name of the argument that says when a schedule ends; None for a schedule without an end."""
    return LENGTHS.get(schedule_name(schedule))


def given_length(schedule: LRSchedulerCallable) -> Length:
    """Return how long its user wants a schedule: a number of steps, a share of the run, or None for all of it."""
    given = getattr(schedule, "keywords", {})
    if given.get("epochs") and given.get("steps_per_epoch"):  # OneCycleLR's other way to say it
        return int(given["epochs"] * given["steps_per_epoch"])
    length: Length = given.get(length_argument(schedule))
    return length


def follows_run(length: Length) -> bool:
    """Say whether a length is that of the run, or a share of it."""
    return length is None or any(isinstance(part, float) for part in (length if isinstance(length, list) else [length]))


def length_in_run(schedule: LRSchedulerCallable, count_steps: Callable[[], float]) -> dict[str, Any]:
    """Return the argument that makes a schedule as long as it should be in a run.

    Args:
        schedule: Class and arguments of the schedule.
        count_steps: Returns how often the run steps it; infinite or negative for a run that ends otherwise.

    Returns:
        {name: value}; empty where the schedule has no end, or its user has given it a number of steps.

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
    """Return the argument that makes a schedule last for so many steps, whatever its user has given."""
    name = length_argument(schedule)
    return {name: steps} if name not in (None, "milestones") else length_in_run(schedule, lambda: steps)
