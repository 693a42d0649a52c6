"""Other people's parts: what their classes, optimizers and datasets raise, in one line that names the part."""

import re
import traceback
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from leyden.cli.messages import reason
from leyden.errors import RunError, UserError

MISCONFIGURED = (  # what Lightning says of a module or of data by another exception than its own
    "no `dataloader_idx` argument in",  # of a step that is given several loaders
    "An invalid dataloader was returned from",
    "does not allow for gradient clipping",  # of a fused optimizer in mixed precision
)


def part_fault(error: Exception) -> UserError | RunError | None:
    """Return the one line for what an optimizer, a schedule, a dataset or Lightning itself raised.

    Returns:
        A `UserError` before the first step, a `RunError` after it; None where the error is of another kind.
    """
    owners = owners_of(error)
    report = "".join(traceback.format_exception(error))
    if owners and isinstance(owners[-1], (Optimizer, LRScheduler)):
        line = named(type(owners[-1]), error)
    elif "_utils/fetch.py" in report:  # of torch.utils.data; a worker's error has its own traceback as its message
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
    """Return what an exception says, with the name of the class that raised it."""
    said = reason(error)
    return said if said.startswith(part.__name__) else f"{part.__name__}: {said}"


def owners_of(error: BaseException) -> list[Any]:
    """Return the objects whose methods an exception went through, the one that raised it last."""
    frames = (frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__))
    return [variables["self"] for variables in frames if "self" in variables]
