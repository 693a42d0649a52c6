"""Limit how long a call of wandb may wait for wandb's own process."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from leyden.lightning_internals import kill_wandb_service

CALL_TIMEOUT = 60.0  # seconds for a call; after that the process counts as frozen


class ProcessWatch(threading.Thread):
    """Kill wandb's own process when a call has waited for it too long.

    wandb 0.31 waits for it without a limit, also to send logged values once the socket is full, so a stopped process
    would block the run for ever. When the process dies, every wait ends.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True, name="wandb-watch")
        self.deadline = math.inf

    def run(self) -> None:
        """Check the deadline once a second."""
        while True:
            time.sleep(min(1.0, CALL_TIMEOUT / 4))
            if time.monotonic() > self.deadline:
                self.deadline = math.inf
                if kill_wandb_service():
                    print("W&B   wandb's own process does not answer and is killed", flush=True)

    def start_timer(self, seconds: float) -> None:
        """Kill the process in so many seconds."""
        self.deadline = time.monotonic() + seconds

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Allow so many seconds for the calls within; an outer limit still holds."""
        before = self.deadline
        self.deadline = min(before, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.deadline = before


@cache
def process_watch() -> ProcessWatch:
    """Return the one watch of this process, started at first use."""
    watch = ProcessWatch()
    watch.start()
    return watch


@contextmanager
def never_failing(what: str) -> Iterator[None]:
    """Print a line if a call fails or takes too long: a run must not fail because a server or wandb's process did.

    Args:
        what: What is logged, for the message.
    """
    try:
        with process_watch().limit(CALL_TIMEOUT):
            yield
    except Exception as error:  # of any kind, also from libraries that wandb uses
        print(f"W&B   {what} was not logged: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
