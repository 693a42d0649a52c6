"""The DataLoader of arrays in memory, whose batches come whole, and its workers, which end with the run."""

import atexit
import multiprocessing
import re
import signal
from collections.abc import Iterator
from multiprocessing.queues import Queue
from typing import Any

import torch
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, get_worker_info

from leyden.errors import RunError

Batch = tuple[Tensor, Tensor]
# private, and made to be replaced: multiprocessing calls it while it handles the error
PRINT_ERROR = Queue._on_queue_feeder_error  # type: ignore[attr-defined]


class ArrayDataLoader(DataLoader[Batch]):
    """A DataLoader whose dataset makes whole batches.

    It asks its sampler for nothing before the first batch is wanted. With workers, the stock one does so at once, and
    that can be before Lightning has restored the position of a run that is being resumed.

    Args:
        kwargs: The arguments of `DataLoader` but for what becomes of a list of samples.
    """

    def __init__(self, **kwargs: Any) -> None:
        # torch opens a file and a connection for every tensor of a worker; arrays go through the pipe that is there
        # already, which costs less. Page-locked memory takes tensors alone.
        self.by_pipe = kwargs["num_workers"] > 0 and not kwargs["pin_memory"]
        collate = as_arrays if self.by_pipe else as_it_is
        super().__init__(**kwargs, collate_fn=collate, worker_init_fn=leave_signals_to_the_run)

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        try:
            if self.by_pipe:
                yield from ((torch.from_numpy(x), torch.from_numpy(y)) for x, y in super().__iter__())
            else:
                yield from super().__iter__()
        except (ConnectionError, EOFError) as error:  # the first sign of the death of a worker, at times
            raise RuntimeError(f"DataLoader worker (pid unknown) has gone: {error}") from error


def as_it_is(batch: Any) -> Any:
    """Collates nothing: `ArrayDataset` has made a batch already."""
    return batch


def as_arrays(batch: Any) -> tuple[Any, Any]:
    """Turns a batch into NumPy's arrays, which share its memory."""
    x, y = batch
    return x.numpy(), y.numpy()


def leave_signals_to_the_run(worker_id: int) -> None:
    """Lets a worker live on at Ctrl-C and SIGTERM, which reach a whole group of processes: the run ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def report_lost_batches() -> None:
    """Raise in the run why a worker cannot send a batch, as when /dev/shm is full.

    The worker's thread that sends it would only print why, and the run would wait for the batch. Workers that are
    forked after this call do it, of any DataLoader.
    """
    Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]


def _send_error(queue: Any, error: Exception, item: Any) -> None:
    if (worker := get_worker_info()) is None:
        PRINT_ERROR(error, item)
    else:
        where = f"in DataLoader worker process {worker.id}"
        queue.put((item[0], ExceptionWrapper(where=where)))  # type: ignore[no-untyped-call]


def end_workers() -> None:
    """Ends workers that would not hear the SIGTERM by which Python ends those of an unfinished epoch."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes it for an accident
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


atexit.register(end_workers)


def worker_fault(error: Exception) -> RunError | None:
    """What to tell of a worker that hangs or has died, after ending the others; None where the error is another.

    torch raises the death of a worker wherever the main process is at that moment.
    """
    if not re.match(r"DataLoader (timed out|worker \(pid)", str(error)):
        return None
    end_workers()
    reason = str(error).strip().rstrip(".")
    return RunError(f"{reason}: --data.num_workers 0 loads without them, --data.timeout waits longer")
