"""Every use of what Lightning and others do not make public, or do in a way that has to be worked around.

Each says what it is for and why no public way does it; tests/test_lightning_internals.py fails when a new version
changes what it relies on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch.distributed.constants import default_pg_timeout


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
