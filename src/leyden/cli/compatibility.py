"""Refuse parts of Lightning that cannot work here, and name those that a resume cannot repeat exactly."""

import logging
from importlib.util import find_spec
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import (
    DeviceStatsMonitor,
    ModelPruning,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)
from lightning.pytorch.callbacks.spike import SpikeDetection
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only

from leyden.errors import UserError
from leyden.lightning_internals import starts_by_multiprocessing

log = logging.getLogger(__name__)
REFUSED = {
    StochasticWeightAveraging: (  # asked for in Lightning's issue 6074, answered by the other two
        "validates and saves the weights before averaging, so its average would never be tested: "
        "take leyden.callbacks.swa.SWA (configs/with/swa.yaml) or EMAWeightAveraging"
    ),
    SpikeDetection: "cannot be read back from a checkpoint (Lightning's load_state_dict fails): leave it out",
}
INEXACT = {
    ModelPruning: "its masks are not in the checkpoints",
    Timer: "it ends the run by the clock",
}


def check_options(options: Namespace, plugins: list[Any]) -> None:
    """Refuse arguments of the Trainer that switch off or replace what every run depends on.

    Args:
        options: The arguments.
        plugins: The plugins among them.

    Raises:
        UserError: An argument is refused.
    """
    if options.barebones:
        raise UserError(
            "--trainer.barebones true switches off the checkpoints and everything that a run writes: leave it out; "
            "--trainer.fast_dev_run true tries a run without them"
        )
    if options.log_every_n_steps == 0:
        raise UserError("--trainer.log_every_n_steps is 0: take a number above that of the steps, to log epochs only")
    for plugin in plugins:
        if isinstance(plugin, CheckpointIO):
            raise UserError(
                f"--trainer.plugins {type(plugin).__name__}: the checkpoints are written by SafeCheckpointIO, "
                "which keeps the old file until the new one is whole: leave it out"
            )


def check_parts(trainer: Trainer, is_resumed: bool) -> None:
    """Refuse callbacks and strategies that would fail or lose work later; warn of those that a resume cannot repeat.

    Args:
        trainer: The Trainer, before `fit`.
        is_resumed: Whether the run resumes from a checkpoint.

    Raises:
        UserError: A callback or the strategy is refused.
    """
    if starts_by_multiprocessing(trainer):
        raise UserError(
            "--trainer.strategy: processes that are spawned or forked report neither their checkpoints nor their "
            "faults to this one: take ddp, which starts a command for each"
        )
    averaging = [type(c).__name__ for c in trainer.callbacks if isinstance(c, WeightAveraging)]  # type: ignore[attr-defined]
    if len(averaging) > 1:
        raise UserError(f"{' and '.join(averaging)} would both average the weights, and one average is kept: take one")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        name = type(callback).__name__
        for refused, why in REFUSED.items():
            if isinstance(callback, refused):
                raise UserError(f"{name} {why}")
        if isinstance(callback, DeviceStatsMonitor) and find_spec("psutil") is None:
            raise UserError(f"{name} needs psutil: pip install psutil")
        for inexact, why in INEXACT.items():
            if isinstance(callback, inexact):
                begin = "this resume is not exact" if is_resumed else "a resume of this run will not be exact"
                rank_zero_only(log.warning)("%s: %s, as %s", begin, name, why)
