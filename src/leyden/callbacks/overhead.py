"""What Lightning does at each training step for nothing, left out: for a small network it is as much as the network."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch import Callback
from lightning.pytorch.profilers import PassThroughProfiler

NOTHING = nullcontext()
STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class NoProfiler(PassThroughProfiler):
    """Measure nothing, at no cost.

    Lightning's own does so by a generator that is made anew for each action, some hundred times a training step.
    `--trainer.profiler simple` or the overlay `profile` takes a real one.
    """

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context in which nothing is measured."""
        return NOTHING


def drop_idle_hooks(callbacks: Iterable[Callback]) -> None:
    """Set those hooks of a training step to None that a callback has only inherited: Lightning passes over them."""
    for callback in callbacks:
        for hook in STEP_HOOKS:
            if getattr(type(callback), hook) is getattr(Callback, hook):
                setattr(callback, hook, None)
