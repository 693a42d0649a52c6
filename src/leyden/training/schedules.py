"""Learning-rate schedules that torch does not have as one class."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class WarmupCosine(LambdaLR):
    """Rise linearly to the optimizer's rate, then fall to zero along half a cosine (Loshchilov and Hutter, 2017).

    Args:
        optimizer: The optimizer.
        warmup_steps: Steps of the rise.
        total_steps: Steps in all; null takes the trainer's.

    Raises:
        ValueError: It is used without a `Task`, which would have filled in `total_steps`.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps: int = 0, total_steps: int | None = None) -> None:
        if total_steps is None:
            raise ValueError("WarmupCosine needs total_steps")

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

        self.total_steps = total_steps  # in the checkpoint it says how far the schedule reaches
        super().__init__(optimizer, factor)
