"""Download files, and use them only if their checksum is right."""

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

TIMEOUT = 10.0  # seconds to wait for an answer of a server
log = logging.getLogger(__name__)


def data_folder(root: str | None) -> Path:
    """Return the folder of the datasets: `root`, or the environment variable LEYDEN_DATA, or the project's `data/`."""
    if root is None:
        root = os.environ.get("LEYDEN_DATA") or str(PROJECT / "data")
    return Path(root).expanduser()


def read_verified(path: Path, md5: str, fetch: Callable[[Path], Iterable[Path]]) -> bytes:
    """Return the content of a file, after downloading it if it is missing or damaged.

    The checksum is that of the returned bytes. A downloaded file replaces `path` when it is complete; other processes
    that need it wait for that. Nothing is written without a download, so the folder may be read-only. With the
    environment variable LEYDEN_OFFLINE nothing is downloaded.

    Args:
        path: The file.
        md5: Its checksum, in hexadecimal.
        fetch: Downloads into the empty folder that it is called with; returns the files to move beside `path`.

    Raises:
        UserError: The file is missing or damaged, and cannot be downloaded.
    """
    try:
        content = _read_intact(path, md5)
        if content is None and os.environ.get("LEYDEN_OFFLINE"):
            raise OSError("LEYDEN_OFFLINE is set")
        if content is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.parent / "download.lock"):
                content = _read_intact(path, md5)  # another process may have downloaded it meanwhile
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
    # a folder beside the target, because a move within a file system is atomic
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        for file in fetch(Path(folder)):
            file.replace(path.parent / file.name)
    content = _read_intact(path, md5)
    if content is None:
        raise OSError("what was downloaded has another md5")
    return content


def download(urls: Sequence[str], md5: str, folder: Path) -> Path:
    """Download a file from the first address that has it with the right checksum, and return its path.

    Args:
        urls: The addresses.
        md5: The checksum, in hexadecimal.
        folder: The folder to download into.

    Raises:
        OSError: No address has it. The message has the error of each.
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
    """Extract some files of a tar archive.

    Args:
        archive: The archive.
        names: Names of the files in it.
        folder: Where to write them; nothing is written outside of it, whatever the archive contains.

    Returns:
        The files, in the order of the names.

    Raises:
        OSError: A file is not in the archive, or is not a plain file inside of the folder.
    """
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, [tar.getmember(name) for name in names], filter="data")
    except (tarfile.TarError, KeyError) as error:
        raise OSError(f"the archive {archive.name} is not what it should be: {error}") from error
    return [folder / name for name in names]


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set the default timeout of sockets, which torchvision's downloads have."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
