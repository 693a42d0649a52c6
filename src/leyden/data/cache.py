"""Arrays on disk that all processes of a machine map into memory, made once from files that are slow to read."""

import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from leyden import PROJECT
from leyden.data.array_dataset import Batch
from leyden.durable import sync, sync_folder

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the folder of all caches: the environment variable LEYDEN_CACHE, or the project's `data/cache/`."""
    return Path(os.environ.get("LEYDEN_CACHE") or PROJECT / "data" / "cache").expanduser()


def cache_key(*options: object) -> str:
    """Return a name for a cache that was made with these options."""
    return hashlib.sha256(json.dumps(options).encode()).hexdigest()[:16]


@contextmanager
def building(folder: Path) -> Iterator[None]:
    """Hold the lock of a cache that is written; log a line if another process holds it.

    Args:
        folder: The folder of the cache.

    Raises:
        OSError: The lock beside it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("another process is writing %s: waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def map_array(path: Path, dtype: type[np.generic], shape: tuple[int, ...], mode: Literal["r", "c"] = "r") -> Tensor:
    """Map a file into memory as a tensor: its pages are read when they are needed and shared by all processes.

    Args:
        path: The file, the bytes of the array.
        dtype: Its type.
        shape: Its shape.
        mode: `c` copies a page that is written to, and the kernel counts the whole array as memory in use, which an
            array larger than memory must not be. A tensor of mode `r` must not be written to.
    """
    if 0 in shape:  # an empty file cannot be mapped
        return torch.from_numpy(np.empty(shape, dtype))
    array = np.memmap(path, dtype, mode, shape=shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def cached_arrays(name: str, sources: Sequence[Path], load: Callable[[], tuple[Batch, Batch]]) -> tuple[Batch, Batch]:
    """Return the arrays of `load`, mapped from a file that all processes of the machine share.

    It is loaded once for each state of the source files, which are compared by path, size and time of the last change.
    Where the cache cannot be written, it is loaded every time.

    Args:
        name: Name of the dataset, with its options.
        sources: The files from which `load` reads.
        load: Returns the training and the test samples, each as inputs (N, ...) and targets (N, ...).
    """
    if not all(path.is_file() for path in sources):
        return load()  # which downloads them, or raises an error that names what is missing
    paths = [str(path.resolve()) for path in sources]
    states = [(path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    prefix = f"{name}-{cache_key(paths)}-"
    folder = cache_folder() / f"{prefix}{cache_key(states)}"
    if not (folder / "arrays.json").is_file():
        arrays = load()
        try:
            with building(cache_folder() / f"{prefix}write"):
                _write_arrays(folder, prefix, [array for batch in arrays for array in batch])
        except OSError as error:
            log.warning(
                "cannot write the cache %s (%s): set LEYDEN_CACHE to a folder that can be written", folder, error
            )
            return arrays
    described = json.loads((folder / "arrays.json").read_text(encoding="utf-8"))
    x, y, x_test, y_test = (
        map_array(folder / f"{i}.bin", np.dtype(dtype).type, tuple(shape), "c")
        for i, (dtype, shape) in enumerate(described)
    )
    return (x, y), (x_test, y_test)


def _write_arrays(folder: Path, prefix: str, arrays: list[Tensor]) -> None:
    """Write the arrays and remove those of earlier states of the files."""
    if folder.exists():  # another process has been faster
        return
    for old in folder.parent.glob(f"{prefix}*/"):
        shutil.rmtree(old)
    part = folder.with_name(f"{prefix}part")
    part.mkdir()
    for i, array in enumerate(arrays):
        array.numpy().tofile(part / f"{i}.bin")
        sync(part / f"{i}.bin")
    described = [(str(array.numpy().dtype), array.shape) for array in arrays]
    (part / "arrays.json").write_text(json.dumps(described), encoding="utf-8")
    sync(part / "arrays.json")
    part.rename(folder)
    sync_folder(folder.parent)
