"""Faults that end a run, in one line: a full disk, no memory, a lost process, a part that raises."""

import errno
import re
import traceback
from pathlib import Path

import torch

from leyden.callbacks.monitored_scores import monitor_fault
from leyden.cli.parts import part_fault
from leyden.data.workers import worker_fault
from leyden.errors import RunError, UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
NO_SHARED_MEMORY = re.compile(r"unable to [^\n]*(?:shared memory|/torch_)[^\n]*")  # torch's message
NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory|cannot allocate memory", re.IGNORECASE)


def known_fault(error: Exception) -> UserError | RunError | None:
    """Return the one-line error for an exception that ended a command, None where it is of no known kind.

    Args:
        error: The exception. Its notes are appended to the line.
    """
    text = str(error)
    fault = (
        worker_fault(error)
        or _memory_fault(error, text)
        or _peer_fault(error, text)
        or monitor_fault(error)
        or part_fault(error)
        or _disk_fault(error, text)
    )
    if isinstance(fault, RunError):
        return RunError("; ".join([str(fault), *getattr(error, "__notes__", ())]))
    return fault


def _memory_fault(error: Exception, text: str) -> RunError | None:
    found = NO_SHARED_MEMORY.search(text)
    if found or _is_of_semaphore(error):
        reason = found[0] if found else text
        return RunError(
            f"no shared memory is left for workers ({reason}): make /dev/shm larger (docker run --shm-size), or set "
            "--data.num_workers 0"
        )
    is_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or getattr(error, "errno", 0) == errno.ENOMEM
    if not is_memory and not (isinstance(error, RuntimeError) and NO_MEMORY.search(text)):
        return None
    size = re.search(r"(?:tried|unable) to allocate [\d.]+ \w+", text, re.IGNORECASE)
    return RunError(
        f"out of memory{f' ({size[0]})' if size else ''}: lower --data.batch_size and raise "
        "--trainer.accumulate_grad_batches as much, or set --trainer.precision bf16-mixed"
    )


def _is_of_semaphore(error: Exception) -> bool:
    """Return whether a semaphore could not be created, which is a file in /dev/shm without a name in the error."""
    frames = traceback.extract_tb(error.__traceback__)
    return (
        isinstance(error, OSError) and bool(frames) and frames[-1].filename.endswith("multiprocessing/synchronize.py")
    )


def _peer_fault(error: Exception, text: str) -> RunError | None:
    """Return the error for a lost process: Gloo raises RuntimeError, NCCL and the store a DistError of torch."""
    of_torch = getattr(torch.distributed, "DistError", ())  # missing where torch was built without distributed
    if not isinstance(error, of_torch) and not (isinstance(error, RuntimeError) and "gloo" in text):
        return None
    reason = text.partition("\n")[0]
    reason = re.sub(r"^\[\S*gloo/\S+\] ", "", reason).partition(". This is typically")[0]
    return RunError(f"lost another process of this run ({reason}): it was killed, or its output says why")


def _disk_fault(error: Exception, text: str) -> RunError | None:
    if isinstance(error, OSError):
        name = error.filename or "a file"
        if error.errno in FULL:
            return RunError(f"cannot write {name} ({error.strerror}): free space, or choose another folder")
        if error.errno in FORBIDDEN and error.filename:
            return RunError(f"cannot open or write {name} ({error.strerror})")
        if error.errno == errno.ENOENT and error.filename and not Path(str(name)).parent.exists():
            return RunError(f"cannot open or write {name}: its folder does not exist, or has been deleted")
    elif isinstance(error, RuntimeError) and re.search(r"PytorchStreamWriter|iostream error", text):  # of torch.save
        return RunError(f"cannot write a file (is the disk full?): {text.partition(chr(10))[0]}")
    return None
