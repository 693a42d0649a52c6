"""Every use of a private name of Lightning, or of another library, with its reason.

tests/test_lightning_internals.py fails if a new version changes one of them.
"""

from multiprocessing.queues import Queue
from typing import Any

from torch._utils import ExceptionWrapper
from torch.utils.data import get_worker_info


def send_worker_errors() -> None:
    """Raise in the run why a DataLoader worker cannot send a batch, for example because /dev/shm is full.

    The thread of the worker that sends batches only prints such an error, and the run would wait for the batch
    forever. Python calls `Queue._on_queue_feeder_error`, private, in that thread, and torch raises an
    `ExceptionWrapper` of torch._utils, private, that it receives instead of a batch; neither has a public hook. The
    change is global, for workers of any DataLoader that are forked afterwards.
    """
    Queue._on_queue_feeder_error = _send_error  # type: ignore[attr-defined]


_print_error = Queue._on_queue_feeder_error  # type: ignore[attr-defined]


def _send_error(queue: Any, error: Exception, item: Any) -> None:
    if (worker := get_worker_info()) is None:
        _print_error(error, item)
    else:
        where = f"in DataLoader worker process {worker.id}"
        queue.put((item[0], ExceptionWrapper(where=where)))  # type: ignore[no-untyped-call]
