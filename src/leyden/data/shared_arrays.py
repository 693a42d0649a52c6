"""Arrays that the processes of one machine share, so that each machine holds them once."""

import atexit
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from leyden.data.array_dataset import Batch

SHARED_ARRAYS = "LEYDEN_SHARED_ARRAYS"  # tells child processes the id of this process, and the file of its arrays
Arrays = tuple[Batch, Batch]  # training and test samples


def load_once_per_machine(load: Callable[[], Arrays], trainer: Trainer | None) -> Arrays:
    """Load arrays; if the Trainer starts further processes, through a file that all of them map into memory.

    Args:
        load: Loads the arrays.
        trainer: The Trainer; None for a process of its own.
    """
    parent, _, file = os.environ.get(SHARED_ARRAYS, "").partition(":")
    if parent != str(os.getppid()):
        arrays = load()
        if trainer is None or trainer.num_devices == 1 or "LOCAL_RANK" in os.environ:
            return arrays  # there are no other processes, or a launcher has started all of them
        with tempfile.NamedTemporaryFile(prefix="leyden-", suffix=".pt", delete=False) as shared:
            file = shared.name
            atexit.register(Path(file).unlink, missing_ok=True)
            torch.save(arrays, shared)
        os.environ[SHARED_ARRAYS] = f"{os.getpid()}:{file}"
    mapped: Arrays = torch.load(file, mmap=True, weights_only=True)
    return mapped


def delete_shared_file() -> None:
    """Delete the file once all processes have mapped it, so that none is left however the run ends."""
    _, _, file = os.environ.get(SHARED_ARRAYS, "").partition(":")
    if file and torch.distributed.is_initialized():  # all processes have met, after mapping it
        Path(file).unlink(missing_ok=True)
