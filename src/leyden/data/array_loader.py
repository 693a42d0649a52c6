"""The DataLoader of arrays in memory, whose batches come whole, and its workers, which end with the run."""

import atexit
import multiprocessing
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing.queues import Queue
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, get_worker_info

from leyden.data.samplers import run_seed, seed_step
from leyden.errors import RunError

Batch = tuple[Tensor, Tensor]
# private, and made to be replaced: multiprocessing calls it while it handles the error
PRINT_ERROR = Queue._on_queue_feeder_error  # type: ignore[attr-defined]


class LazyDataLoader(DataLoader[Any]):
    """A DataLoader that starts its sampler only when the first batch is requested, and seeds training steps.

    With workers, the stock one asks at once, and that can be before Lightning has restored the position of a run that
    is being resumed. Lightning fetches a batch of a loader with a length just before its step, and not earlier, so what
    the step draws after that (augmentation on the device, dropout) is a function of its position.

    Args:
        trainer: Whose steps to seed while it trains; None for a loader that evaluates.
        worker_init_fn: As for `DataLoader`.
        kwargs: The other arguments of `DataLoader`.
    """

    def __init__(
        self,
        trainer: Trainer | None = None,
        worker_init_fn: Callable[[int], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs, worker_init_fn=partial(start_worker, worker_init_fn))
        self.trainer = trainer

    def batches(self) -> Iterable[Any]:
        """Return the batches of one epoch, as the stock DataLoader makes them."""
        return super().__iter__()

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            if self.trainer is None or not self.trainer.training:
                yield from self.batches()
                return
            device, seed = self.trainer.strategy.root_device, run_seed()
            for batch in self.batches():
                seed_step(self.trainer, device, seed)
                yield batch
        except (ConnectionError, EOFError) as error:  # the first sign of the death of a worker, at times
            raise RuntimeError(f"DataLoader worker (pid unknown) has gone: {error}") from error


class ArrayDataLoader(LazyDataLoader):
    """A DataLoader whose dataset makes whole batches.

    Args:
        kwargs: The arguments of `LazyDataLoader` but for what becomes of a list of samples.
    """

    def __init__(self, **kwargs: Any) -> None:
        # torch opens a file and a connection for every tensor of a worker; arrays go through the pipe that is there
        # already, which costs less. Page-locked memory takes tensors alone.
        self.by_pipe = kwargs["num_workers"] > 0 and not kwargs["pin_memory"]
        super().__init__(**kwargs, collate_fn=as_arrays if self.by_pipe else as_it_is)

    def batches(self) -> Iterable[Batch]:
        """Return the batches of one epoch as tensors."""
        batches = super().batches()
        return ((torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches) if self.by_pipe else batches


def as_it_is(batch: Any) -> Any:
    """Collates nothing: `ArrayDataset` has made a batch already."""
    return batch


def as_arrays(batch: Any) -> tuple[Any, Any]:
    """Turns a batch into NumPy's arrays, which share its memory."""
    x, y = batch
    return x.numpy(), y.numpy()


def start_worker(user_function: Callable[[int], None] | None, worker_id: int) -> None:
    """Let a worker live on at Ctrl-C and SIGTERM, which reach a whole group of processes: the run ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if user_function is not None:
        user_function(worker_id)


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
