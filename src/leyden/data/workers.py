"""The worker processes of a DataLoader: how they start, fail and end."""

import atexit
import multiprocessing
import re
import signal
from collections.abc import Callable
from functools import cache

from leyden.errors import RunError, UserError


def start_worker(user_function: Callable[[int], None] | None, worker_id: int) -> None:
    """Ignore signals in a worker, as terminals and SLURM send them to a whole group: the run ends its workers."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if user_function is not None:
        user_function(worker_id)


@cache
def end_workers_at_exit() -> None:
    """Register `end_workers`, once: Python would send SIGTERM to the workers of an unfinished epoch and wait."""
    atexit.register(end_workers)


def end_workers() -> None:
    """Kill all workers: they ignore SIGTERM."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise an error
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def without_traceback(error: UserError | RunError) -> UserError | RunError:
    """Return an error as a worker has raised it: torch puts the worker's traceback into its message."""
    text = str(error)
    if not text.startswith("Caught "):
        return error
    return type(error)(text.rstrip().rpartition(f"{type(error).__name__}: ")[2])


def worker_fault(error: Exception) -> RunError | None:
    """Return a one-line error for a worker that hangs or has died, after ending the others; None for other errors.

    torch raises the death of a worker wherever the main process happens to be.
    """
    if not re.match(r"DataLoader (timed out|worker \(pid)", str(error)):
        return None
    end_workers()
    reason = str(error).strip().rstrip(".")
    return RunError(f"{reason}: --data.num_workers 0 loads without them, --data.timeout waits longer")
