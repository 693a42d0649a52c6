"""Real `leyden` processes to be killed, signalled and compared by the bits of their weights."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch


class Process:
    """A `leyden` command that runs.

    Args:
        server: What forks it.
        command: As `forks.py` takes it.
    """

    def __init__(self, server: "Server", command: dict[str, Any]) -> None:
        self.server = server
        self.output = Path(command["output"])
        self.pid = int(server.ask(command))

    def wait(self) -> int:
        """The exit code; -9 after SIGKILL."""
        return int(self.server.ask({"wait": self.pid}))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends it a signal; it may have ended already."""
        os.kill(self.pid, number)

    def text(self) -> str:
        """What it has printed so far, on both streams."""
        return self.output.read_text()


class Server:
    """Starts `leyden` commands in forks of one process."""

    def __init__(self) -> None:
        script = str(Path(__file__).with_name("forks.py"))
        one_thread = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, script], stdin=pipe, stdout=pipe, text=True, env=one_thread)
        self.count = 0

    def ask(self, command: dict[str, Any]) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def start(
        self,
        *args: str,
        at: tuple[str, int, int] | tuple[str, int, int, str] | None = None,
        hang: int | None = None,
        env: dict[str, str] | None = None,
    ) -> Process:
        """Begins `leyden ARGS` in the current directory; see `forks.py` for `at` and `hang`."""
        self.count += 1
        output = str(Path(f"output-{self.count}.txt").absolute())
        place = {"start": args, "cwd": str(Path.cwd()), "output": output}
        return Process(self, {**place, "at": at, "hang": hang, "env": env or {}})

    def run(self, *args: str, **kwargs: Any) -> tuple[int, str]:
        """Runs it to its end; its exit code and what it printed."""
        process = self.start(*args, **kwargs)
        return process.wait(), process.text()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    assert started.process.stdin is not None
    started.process.stdin.close()
    started.process.terminate()  # a worker that a test has left holds the other end of the pipe
    started.process.wait()


@pytest.fixture
def leyden(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """`leyden` commands in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return server


def weights_hash(file: Path) -> str:
    """SHA-256 over all weights and buffers of a checkpoint."""
    digest = hashlib.sha256()
    for name, weight in torch.load(file, weights_only=True)["state_dict"].items():
        digest.update(name.encode() + weight.contiguous().numpy().tobytes())
    return digest.hexdigest()


def run_of(name: str, root: str = "runs") -> Path:
    """The one run of an experiment."""
    (run,) = Path(root, name).iterdir()
    return run


def result(name: str) -> tuple[str, str]:
    """What a resumed run must have in common with one that was not stopped: the weights, and every logged number."""
    run = run_of(name)
    return weights_hash(run / "checkpoints" / "last.ckpt"), (run / "metrics.csv").read_text()


def wait_for(pattern: str, after: int = 0) -> Path:
    """Waits until a file is there, written later than `after`, in nanoseconds as `st_mtime_ns`."""
    deadline = time.monotonic() + 120
    while True:
        for file in Path().glob(pattern):
            with suppress(FileNotFoundError):  # it has changed its name
                if file.stat().st_mtime_ns > after:
                    return file
        assert time.monotonic() < deadline, pattern
        time.sleep(0.01)


def is_running(pid: int, but: str = "") -> bool:
    """Whether there is such a process that is no zombie, nor in a state of `but` (T: stopped)."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "Z" + but
