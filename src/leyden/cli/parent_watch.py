"""End a process when the process that started it is gone. Imported before torch."""

import os
import sys
import threading
import time

MAIN_PROCESS = "LEYDEN_MAIN_PROCESS"  # its process id, for the processes that it starts
INTERVAL = 1.0  # seconds between two checks


def end_with_parent() -> None:
    """Watch from now on, on a rank that another process has started, whether that one still runs.

    That is rank 0, or torchrun, which starts local rank 0 too. Without it this process would wait in the next
    rendezvous or collective until a timeout of some minutes. A thread can watch meanwhile, as these calls release the
    interpreter's lock.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) == 0 and "TORCHELASTIC_RUN_ID" not in os.environ:
        os.environ[MAIN_PROCESS] = str(os.getpid())
        return
    # rank 0 may be gone by now; for torchrun, only its process id at the start is known
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
