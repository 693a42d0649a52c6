"""Replace files so that neither a kill nor a power cut leaves a broken one."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER_SYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP)  # fsync(2), of file systems that cannot sync a folder


@contextmanager
def replacing(path: Path, keep_as: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; the file written there replaces `path` when the block ends.

    If the block raises, the temporary file is removed and `path` stays as it was.

    Args:
        path: The file to write; it may exist.
        keep_as: Keep the replaced file under this path, in the same folder.

    Raises:
        OSError: The file cannot be written to disk. `path`, or `keep_as` after its rename, is then unchanged.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        # The order matters. The new file is on disk before it takes any name, so every name always refers to a complete
        # file. Until the folder is synced a power cut may undo the renames, both or either: `path` is then the new or
        # the old file, or is missing while `keep_as` is the old one. At no point are both lost.
        sync(part)
        if keep_as is not None and path.exists():
            path.replace(keep_as)
        part.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on disk.

    Raises:
        OSError: They cannot be written.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk, if its file system can do that.

    Raises:
        OSError: They cannot be written.
    """
    try:
        sync(folder)
    except OSError as error:
        if error.errno not in FOLDER_SYNC_UNSUPPORTED:
            raise
