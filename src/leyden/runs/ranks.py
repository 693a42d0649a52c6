"""Collect objects from all ranks of a distributed run."""

from typing import Any

from lightning.pytorch import Trainer
from torch import distributed


def gather_object(trainer: Trainer, value: Any) -> list[Any]:
    """Return the value of each rank, in the order of the ranks (a collective call: every rank must make it).

    Args:
        trainer: The Trainer; with one process nothing is communicated.
        value: Any object that can be pickled. Move tensors to the CPU first.
    """
    values = [value] * trainer.world_size
    if trainer.world_size > 1:
        distributed.all_gather_object(values, value)
    return values
