"""Write and read checkpoint files: durable, verified by checksum, and without running code."""

import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from leyden.durable import replacing
from leyden.errors import RunError, UserError
from leyden.runs.directory import LAST, PREVIOUS


class SafeCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint to a temporary file that replaces the old one when complete; verify each one that is read.

    The `last.ckpt` that is replaced stays as `previous.ckpt`. After a kill or a power cut at any moment at least one of
    the two is complete; only the newest can be missing. The checksum is the file format's own: `torch.save` writes a
    zip archive with a CRC-32 per entry.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint. `path` keeps its old content until the new one is complete and on disk.

        Raises:
            RunError: A weight is not finite, or the file cannot be written.
        """
        for name, weight in checkpoint["state_dict"].items():
            # a sum is cheaper than a mask, and any NaN or infinity makes it NaN or infinite
            if weight.is_floating_point() and not math.isfinite(weight.sum(dtype=torch.float32)):
                raise RunError(f"{name} holds NaN or infinity at step {checkpoint['global_step']}: nothing is saved")
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, keep_as=path.with_name(PREVIOUS) if path.name == LAST else None) as part:
                torch.save(checkpoint, part)
        except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError, without the reason
            reason = getattr(error, "strerror", None) or "is the disk full?"
            raise RunError(f"cannot write {path} ({reason}); the checkpoint before it is whole") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint as `read_checkpoint` does, whatever `weights_only` says.

        Raises:
            UserError: The file is damaged, or is not a checkpoint.
        """
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Verify the checksums of a checkpoint, then read it with `weights_only=True`, so that no code in it can run.

    Raises:
        UserError: The file is damaged, or is not a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if part := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {part} is wrong")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # zipfile and torch raise many types for a file that is not theirs
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} is damaged or is no checkpoint of this project ({reason})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is no Lightning checkpoint: it holds no `state_dict`")
    return checkpoint
