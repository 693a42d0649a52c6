"""Find the checkpoint file that `--ckpt_path` names."""

import logging
import os
from contextlib import suppress
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from leyden.checkpoints.io import read_checkpoint
from leyden.errors import UserError
from leyden.runs.directory import BEST, LAST, PREVIOUS, all_runs, has_checkpoint

log = logging.getLogger(__name__)


def find_checkpoint(requested: str, root: Path, name: str | None, default: str) -> Path:
    """Return the checkpoint file that `--ckpt_path REQUESTED` means.

    Args:
        requested: A checkpoint file, a run directory, or `best` or `last` for the newest run.
        root: The directory of all runs.
        name: Search only the runs of this experiment; None for all.
        default: Which checkpoint of a run directory to return, `best` or `last`.

    Raises:
        UserError: There is none, or none is complete.
    """
    path = Path(requested)
    if requested in ("best", "last"):
        runs, empty = all_runs(root / (name or "")), []
        while runs and not has_checkpoint(runs[-1]):
            empty.append(runs.pop().name)
        if not runs:
            raise UserError(
                f"there is no run in {root / (name or '*')} with a checkpoint; train first with `leyden fit`, "
                "or give --ckpt_path a file or a run directory"
            )
        if empty:
            rank_zero_only(log.warning)("skipped, as they have no checkpoint: %s", " ".join(empty))
        path, default = runs[-1], requested
    if path.is_dir():
        return _newest_complete(path) if default == "last" else _best(path)
    return _existing(path)


def _best(run: Path) -> Path:
    """Return the best checkpoint of a run: best.ckpt, or the one that its newest checkpoint names as the best."""
    folder = run / "checkpoints"
    others = [] if (folder / BEST).is_file() else sorted(folder.glob("*.ckpt"), key=os.path.getmtime, reverse=True)
    for file in others:
        with suppress(UserError):  # damaged
            for state in read_checkpoint(file).get("callbacks", {}).values():
                best = Path(state.get("best_model_path", "") if isinstance(state, dict) else "")
                for path in (folder / best.name, best):  # the run's directory may have been moved
                    if path.is_file():
                        return path
    return _existing(folder / BEST)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; --ckpt_path takes a file, a run directory, `best` or `last`")
    return path


def _newest_complete(run: Path) -> Path:
    """Return the newest complete checkpoint of a run, and log which ones are damaged.

    `best.ckpt` and others are returned only if neither `last.ckpt` nor `previous.ckpt` is complete: they are saved
    before the last rows of their epoch are on disk.
    """
    complete, damaged = [], []
    for path in (run / "checkpoints").glob("*.ckpt"):
        try:
            complete.append((path.name in (LAST, PREVIOUS), read_checkpoint(path)["global_step"], path))
        except UserError as error:
            damaged.append(error)
    if not complete:
        why = f"{damaged[0]}" if damaged else "it ended before the first was saved: start it again"
        raise UserError(f"no checkpoint to go on from in {run}: {why}")
    for reason in damaged:
        log.warning("skipped: %s", reason)
    return max(complete)[-1]
