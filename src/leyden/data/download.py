"""Downloaded files, which are used only if their checksum holds."""

import hashlib
import logging
import os
import socket
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock
from torchvision.datasets.utils import download_url

from leyden import PROJECT
from leyden.errors import UserError

TIMEOUT = 10.0  # seconds that a server may stay silent
log = logging.getLogger(__name__)


def data_folder(root: str | None) -> Path:
    """The folder of the datasets: `root`, or the environment's LEYDEN_DATA, or the project's `data/`."""
    if root is None:
        root = os.environ.get("LEYDEN_DATA") or str(PROJECT / "data")
    return Path(root).expanduser()


def read_verified(path: Path, md5: str, fetch: Callable[[Path], Iterable[Path]]) -> bytes:
    """Returns the content of a file, after fetching it if it is missing or damaged.

    The checksum is that of the very bytes returned. A file that is fetched takes its place only when
    complete, and several processes that want it wait for the one that fetches it. Nothing is written unless a
    fetch is needed, so the folder may be read-only.

    Args:
        path: The file.
        md5: Its checksum.
        fetch: Is given an empty folder, downloads into it, and returns the files that belong beside `path`.

    Raises:
        UserError: If the file is not there and cannot be fetched.
    """
    try:
        content = _read_intact(path, md5)
        if content is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.parent / "download.lock"):
                content = _read_intact(path, md5)  # another process may have fetched it meanwhile
                if content is None:
                    log.warning("%s is %s: downloading it", path, "damaged" if path.exists() else "missing")
                    content = _fetch_and_read(path, md5, fetch)
    except OSError as error:
        state = "damaged" if path.exists() else "missing"
        raise UserError(
            f"{path} is {state} and cannot be downloaded ({error}): put the official file there, md5 {md5}"
        ) from error
    return content


def _read_intact(path: Path, md5: str) -> bytes | None:
    if not path.is_file():
        return None
    content = path.read_bytes()
    return content if hashlib.md5(content, usedforsecurity=False).hexdigest() == md5 else None


def _fetch_and_read(path: Path, md5: str, fetch: Callable[[Path], Iterable[Path]]) -> bytes:
    # a folder beside the target: a file system moves a file from there in one step
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        for file in fetch(Path(folder)):
            file.replace(path.parent / file.name)
    content = _read_intact(path, md5)
    if content is None:
        raise OSError("what was downloaded has another md5")
    return content


def download(urls: Sequence[str], md5: str, folder: Path) -> Path:
    """Downloads a file from the first of several addresses that has the right one.

    Raises:
        OSError: If none has. The message names each address and what went wrong there.
    """
    failures = []
    for url in urls:
        try:
            with _socket_timeout(TIMEOUT):
                download_url(url, folder, md5=md5)
        except (OSError, RuntimeError, HTTPException) as error:
            failures.append(f"{url}: {error}")
        else:
            return folder / url.rpartition("/")[2]
    raise OSError("; ".join(failures))


def unpack(archive: Path, names: Iterable[str], folder: Path) -> list[Path]:
    """Takes some files out of a tar archive, and nothing else.

    Args:
        archive: The archive.
        names: The files' names in it.
        folder: Where they go; nothing is written outside of it, whatever the archive says.

    Returns:
        The files, in the order of the names.

    Raises:
        OSError: If a file is not in the archive, or is no plain file that belongs into the folder.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, [tar.getmember(name) for name in names], filter="data")
    except (tarfile.TarError, KeyError) as error:
        raise OSError(f"the archive {archive.name} is not what it should be: {error}") from error
    return [folder / name for name in names]


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Sets the time limit of sockets that have none of their own, such as torchvision's."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
