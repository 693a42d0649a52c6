"""Runs `leyden` in forks of one process that has imported it, which saves each of them some seconds.

Reads commands from stdin, a JSON object a line, and answers each with a line:
{"start": arguments, "cwd": folder, "output": file, "at": [hook, count, signal], "hang": worker, "env": variables}
    -> process id. `at`, which may be null, is the call of a hook at which the process sends itself a signal, or its
    first worker, should a fourth item say "worker"; `hang` is the worker of the DataLoader that stops working, or null.
{"wait": process id}
    -> how it ended, as `subprocess` has it: -9 for SIGKILL
"""

import json
import multiprocessing
import os
import signal
import sys
import time
from functools import wraps
from typing import Any, NoReturn

import torch
from torch.utils.data import get_worker_info

from leyden.checkpoints.last_checkpoint import LastCheckpoint
from leyden.cli.main import main
from leyden.data.array_dataset import ArrayDataset, Batch


def signal_at(hook: str, count: int, number: int, whom: str = "itself") -> None:
    """Has the process signal itself or a worker where a hook is called for the count-th time."""
    original = getattr(LastCheckpoint, hook)
    calls = 0

    @wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid() if whom == "itself" else multiprocessing.active_children()[0].pid or 0, number)
            time.sleep(0.1)  # what it leads to happens here
        return original(*args, **kwargs)

    setattr(LastCheckpoint, hook, counted)


def hang(worker: int) -> None:
    """Has one worker of the DataLoader never deliver a batch."""
    original = ArrayDataset.__getitems__

    def stuck(dataset: ArrayDataset, indices: list[int]) -> Batch:
        if (info := get_worker_info()) is not None and info.id == worker:
            time.sleep(3600)
        return original(dataset, indices)

    ArrayDataset.__getitems__ = stuck  # type: ignore[method-assign]


def run(command: dict[str, Any]) -> NoReturn:
    """Is the forked process."""
    os.chdir(command["cwd"])
    os.environ.update(command["env"])
    file = os.open(command["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    if command["at"]:
        signal_at(*command["at"])
    if command["hang"] is not None:
        hang(command["hang"])
    code: Any = 70
    try:
        code = main(command["start"])
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where a shell runs the tests behind it
    for line in sys.stdin:
        command = json.loads(line)
        if "wait" in command:
            print(os.waitstatus_to_exitcode(os.waitpid(command["wait"], 0)[1]), flush=True)
        else:
            print(os.fork() or run(command), flush=True)
