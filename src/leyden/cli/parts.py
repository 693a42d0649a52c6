"""One-line errors for exceptions in other people's classes, optimizers and datasets."""

import re
import traceback
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from leyden.cli.messages import reason
from leyden.errors import RunError, UserError

MISCONFIGURED = (  # messages of Lightning about a module or data that are no MisconfigurationException
    "no `dataloader_idx` argument in",  # a step with several loaders
    "An invalid dataloader was returned from",
    "does not allow for gradient clipping",  # a fused optimizer in mixed precision
)


def part_fault(error: Exception) -> UserError | RunError | None:
    """Return the one-line error for what an optimizer, a schedule, a dataset or Lightning raised.

    Returns:
        A `UserError` before the first step, a `RunError` after it; None for any other error.
    """
    owners = owners_of(error)
    report = "".join(traceback.format_exception(error))
    if owners and isinstance(owners[-1], (Optimizer, LRScheduler)):
        line = named(type(owners[-1]), error)
    elif "_utils/fetch.py" in report:  # in torch.utils.data; the message of a worker's error is its traceback
        said = reason(error) if "DataLoader worker process" not in str(error) else str(error).strip().splitlines()[-1]
        places = re.findall(r'File "(.+)", line (\d+)', report.rpartition("_utils/fetch.py")[2])
        ours = ("torch/utils/data", "leyden/data/resumable.py")
        where = [f" ({file}, line {line})" for file, line in places if not any(part in file for part in ours)]
        line = f"a batch cannot be loaded: {said}{(where or [''])[0]}"
    elif isinstance(error, OSError) and (data := [owner for owner in owners if isinstance(owner, LightningDataModule)]):
        line = named(type(data[-1]), error)
    elif isinstance(error, MisconfigurationException) or any(words in str(error) for words in MISCONFIGURED):
        line = reason(error)
    elif loggers := re.findall(r"/loggers/(\w+)\.py", report):
        return RunError(f"the {loggers[-1]} logger failed: {reason(error)}")
    else:
        return None
    trained = any(isinstance(owner, Trainer) and owner.global_step > 0 for owner in owners)
    return RunError(line) if trained else UserError(line)


def named(part: type, error: BaseException) -> str:
    """Return the message of an exception, with the name of the class that raised it."""
    said = reason(error)
    return said if said.startswith(part.__name__) else f"{part.__name__}: {said}"


def owners_of(error: BaseException) -> list[Any]:
    """Return the objects whose methods an exception passed through; the last one raised it."""
    frames = (frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__))
    return [variables["self"] for variables in frames if "self" in variables]
