"""A process that another one has started ends with it. Imported before torch."""

import os
import sys
import threading
import time

MAIN_PROCESS = "LEYDEN_MAIN_PROCESS"  # tells the processes that this one starts its number
INTERVAL = 1.0  # seconds between two looks


def end_with_parent() -> None:
    """Watch from now on, on rank 1 and higher of a machine, whether the process that started this one still runs.

    That is rank 0, or torchrun, or SLURM. Without it this process would wait at the next rendezvous or collective until
    a timeout, some minutes later. A thread sees it at any moment, as all of these release the interpreter.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        os.environ[MAIN_PROCESS] = str(os.getpid())
        return
    # rank 0 may be gone by now; of torchrun, nothing is known but that it was there
    parent = int(os.environ.get(MAIN_PROCESS, os.getppid()))
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent-watch").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(INTERVAL)
    try:
        rank = os.environ["LOCAL_RANK"]
        print(f"error: rank {rank} ends: the process that started it is gone", file=sys.stderr, flush=True)
    finally:
        os._exit(1)
