"""Run directories and the checkpoint files in them.

runs/<name>/<time>/          one run of `leyden fit`
    config.yaml              the resolved configuration that repeats it
    checkpoints/best.ckpt    lowest val/loss
    checkpoints/last.ckpt    end of the last epoch
    metrics.csv, curves.png
runs/<name>/<time>_test/     one evaluation, likewise _validate and _predict
"""

import atexit
import itertools
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from leyden.errors import UserError

RUNS = "runs"  # in the current directory, unless trainer.default_root_dir names another


def make_run_directory(parent: Path, suffix: str = "") -> Path:
    """Make and return `parent/<time><suffix>`; two runs in the same second get different names.

    Raises:
        UserError: The directory cannot be written.
    """
    time = datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + suffix
    for number in itertools.count(1):
        directory = parent / (time if number == 1 else f"{time}-{number}")
        new = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        try:
            directory.mkdir(parents=True)  # fails where it exists, also when another process has just made it
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                f"cannot write the run to {parent} ({error.strerror}); choose a folder with --trainer.default_root_dir"
            ) from error
        atexit.register(_remove_if_empty, new)
        return directory
    raise AssertionError


def _remove_if_empty(folders: list[Path]) -> None:
    """Leave nothing behind of a run that was refused before it began: the folders it made, innermost first."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()  # refuses where there is something in it


def find_checkpoint(wanted: str, root: Path, name: str | None, default: str) -> Path:
    """Return the checkpoint file that `--ckpt_path wanted` means.

    Args:
        wanted: A checkpoint file, a run directory, or `best` or `last` of the newest run.
        root: The directory of all runs.
        name: Look for the newest run among this experiment's only.
        default: Which checkpoint of a run directory to take, `best` or `last`.

    Raises:
        UserError: There is none.
    """
    if wanted in ("best", "last"):
        found = root.glob(f"{name or '*'}/*/checkpoints/{wanted}.ckpt")
        newest = max(found, key=lambda file: file.parts[-3], default=None)  # the directory's name is its time
        if newest is None:
            raise UserError(
                f"no {wanted}.ckpt in {root / (name or '*')}/*/checkpoints; train first with `leyden fit`, "
                "or give --ckpt_path a file or a run directory"
            )
        return newest
    path = Path(wanted)
    if path.is_dir():
        path = path / "checkpoints" / f"{default}.ckpt"
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; --ckpt_path takes a file, a run directory, `best` or `last`")
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint with `weights_only=True`, so that no code in the file can run.

    Raises:
        UserError: The file is damaged, or is not a checkpoint.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises nearly anything at a file that is not its own
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} is damaged or is no checkpoint of this project ({reason})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is no Lightning checkpoint: it holds no `state_dict`")
    return checkpoint
