"""Checkpoint files that survive a kill, a full disk and a flipped bit, and are read without running code."""

import ctypes
import math
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from leyden.errors import RunError, UserError

RENAME = getattr(ctypes.CDLL(None), "renameat2", None)  # None where the system is not Linux


class SafeCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint beside its place and rename it when complete; read only what is whole.

    The checksum is the file format's own: `torch.save` writes a zip archive, with a CRC-32 of each part.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `path`, which keeps its old content until the new one is complete.

        Raises:
            RunError: A weight is not finite, or the file cannot be written.
        """
        for name, weight in checkpoint["state_dict"].items():
            # one sum in place of a mask: any NaN or infinity among the weights makes it one
            if weight.is_floating_point() and not math.isfinite(weight.sum(dtype=torch.float32)):
                raise RunError(f"{name} holds NaN or infinity at step {checkpoint['global_step']}: nothing is saved")
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        try:
            if not path.parent.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, part)
            _put_in_place(part, path)
        except (OSError, RuntimeError) as error:  # torch raises the second, which does not say why
            reason = getattr(error, "strerror", None) or "is the disk full?"
            raise RunError(f"cannot write {path} ({reason}); the checkpoint before it is whole") from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, whole by its checksum, and run no code from it, whatever `weights_only` says."""
        return read_checkpoint(Path(path))


def _put_in_place(part: Path, path: Path) -> None:
    """Give a complete file its name, in one step.

    Where Linux can, the new and the old file change names, and the old one is then `part`. A file that replaces another
    is written out at once by ext4, which takes half as long as the whole save.
    """
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    if RENAME is None or RENAME(here, os.fsencode(part), here, os.fsencode(path), exchange) != 0:
        part.replace(path)  # nothing is there yet, or the file system cannot


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Verify a checkpoint's checksums, then read it with `weights_only=True`, so that no code in it can run.

    Raises:
        UserError: The file is damaged, or is not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if part := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {part} is wrong")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # zipfile and torch raise nearly anything at a file that is not their own
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} is damaged or is no checkpoint of this project ({reason})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is no Lightning checkpoint: it holds no `state_dict`")
    return checkpoint
