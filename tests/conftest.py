"""Tiny files in the datasets' own formats, so that no test needs a download."""

import errno
import gzip
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets.utils import calculate_md5

from leyden.data.cifar10 import CIFAR10DataModule
from leyden.data.mnist import MNISTDataModule

from .processes import leyden as leyden
from .processes import server as server

REAL_DATA = os.environ.get("LEYDEN_DATA")


@pytest.fixture(autouse=True)
def fresh_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the user's files and seed out of the tests, and threads from fighting over the cores."""
    on_sigterm = signal.getsignal(signal.SIGTERM)  # a rank that fails ignores it, and its children would too
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("LEYDEN_DATA", raising=False)
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "disabled")  # its process takes a second to start; tests/runs has it on
    torch.set_num_threads(1)
    yield
    signal.signal(signal.SIGTERM, on_sigterm)


@pytest.fixture
def real_data() -> str:
    """The folder of the real files."""
    if not REAL_DATA:
        pytest.skip("LEYDEN_DATA is not set")
    return REAL_DATA


def blocks(labels: np.ndarray, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Noise with a bright block whose place tells the class, (N, C, H, W): easy to learn."""
    x = np.random.default_rng(seed).integers(0, 60, size=(len(labels), *shape), dtype=np.uint8)
    for image, label in zip(x, labels, strict=True):
        top, left = 4 + 12 * (label // 5), 2 + 5 * (label % 5)
        image[:, top : top + 8, left : left + 4] += 180
    return x


@pytest.fixture
def mnist_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with 300 training and 100 test images in MNIST's format."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    checksums = {}
    for split, count in [("train", 300), ("t10k", 100)]:
        labels = np.arange(count, dtype=np.uint8) % 10
        images = blocks(labels, (1, 28, 28), seed=count)[:, 0]
        for name, array in [("images-idx3", images), ("labels-idx1", labels)]:
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            file = folder / f"{split}-{name}-ubyte.gz"
            file.write_bytes(gzip.compress(header + array.tobytes()))
            checksums[file.name] = calculate_md5(file)
    monkeypatch.setattr(MNISTDataModule, "files", checksums)
    return tmp_path


@pytest.fixture
def cifar10_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with 5 x 60 training and 60 test images in the format of CIFAR-10's binary release."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    checksums = {}
    for seed, name in enumerate(CIFAR10DataModule.files):
        labels = np.arange(60, dtype=np.uint8) % 10
        images = blocks(labels, (3, 32, 32), seed)
        np.concatenate([labels[:, None], images.reshape(60, -1)], axis=1).tofile(folder / name)
        checksums[name] = calculate_md5(folder / name)
    monkeypatch.setattr(CIFAR10DataModule, "files", checksums)
    return tmp_path


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder and prints nothing."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Ranks:
    """Two threads that are ranks; `sums` counts what they have summed."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=20)
        self.here = threading.local()
        self.given: dict[int, torch.Tensor] = {}
        self.sums = 0

    def all_reduce(self, tensor: torch.Tensor) -> None:
        """Stands for `torch.distributed.all_reduce`."""
        self.given[self.here.rank] = tensor.clone()
        self.barrier.wait()
        total = self.given[0] + self.given[1]
        self.barrier.wait()
        tensor.copy_(total)
        self.sums += self.here.rank

    def run(self, function: Callable[[int], Any]) -> list[Any]:
        """What the function returns for the ranks 0 and 1, which run at the same time."""

        def as_rank(rank: int) -> Any:
            self.here.rank = rank
            try:
                return function(rank)
            except BaseException:
                self.barrier.abort()  # nor does the other wait
                raise

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(as_rank, range(2)))


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    """Two ranks in this process, which agree by `torch.distributed.all_reduce`."""
    both = Ranks()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: "gloo")
    monkeypatch.setattr(torch.distributed, "all_reduce", both.all_reduce)
    return both


class SystemCalls:
    """Records the calls that decide what a power cut leaves, in order, by the names of the files.

    Args:
        patch: Puts the recording functions in place.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.failing = ""
        self.names: dict[int, str] = {}
        originals = {"open": os.open, "fsync": os.fsync, "replace": os.replace}

        def opened(path: Any, *args: Any, **kwargs: Any) -> int:
            descriptor: int = originals["open"](path, *args, **kwargs)  # type: ignore[operator]
            self.names[descriptor] = Path(path).name
            return descriptor

        def fsync(descriptor: int) -> None:
            self.note(f"fsync {self.names.get(descriptor)}")
            originals["fsync"](descriptor)  # type: ignore[operator]

        def replace(old: Any, new: Any) -> None:
            self.note(f"replace {Path(old).name} {Path(new).name}")
            originals["replace"](old, new)  # type: ignore[operator]

        for function in (fsync, replace):
            patch.setattr(os, function.__name__, function)
        patch.setattr(os, "open", opened)

    def note(self, call: str) -> None:
        """Adds a call, and has it fail if it is `failing`."""
        self.made.append(call)
        if call == self.failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def system_calls(monkeypatch: pytest.MonkeyPatch) -> SystemCalls:
    """The calls of fsync and rename that this process makes from now on."""
    return SystemCalls(monkeypatch)


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Serves a folder on this machine and returns its address, which ends in a slash."""
    with ExitStack() as stack:

        def start(folder: Path) -> str:
            handler = partial(QuietHandler, directory=str(folder))
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_address[1]}/"

        yield start
