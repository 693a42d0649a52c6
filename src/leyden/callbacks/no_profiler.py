"""A profiler that measures nothing, for every run without another one."""

from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch.profilers import PassThroughProfiler

NOTHING = nullcontext()


class NoProfiler(PassThroughProfiler):
    """Measure nothing, at no cost.

    The default profiler of Lightning creates a generator for each action, some hundred times per training step. Without
    that, a step of the MLP takes 5.0 ± 1.0 % less CPU time (row `training epoch, MLP, batch 128` of docs/benchmarks.md;
    median of 150 alternating rounds of 20 steps). `--trainer.profiler simple` or configs/with/profile.yaml replaces it.
    """

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context in which nothing is measured."""
        return NOTHING
