"""Run directories and the checkpoint files in them.

runs/<name>/<time>/          one run of `leyden fit`
    config.yaml              the resolved configuration that repeats it
    checkpoints/best.ckpt    lowest val/loss
    checkpoints/last.ckpt    where a resumed run goes on
    checkpoints/previous.ckpt    the last.ckpt before it
    metrics.csv, curves.png
runs/<name>/<time>_test/     one evaluation, likewise _validate and _predict
"""

import itertools
import logging
import os
import shutil
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from leyden.errors import UserError
from leyden.training.checkpoint_io import read_checkpoint
from leyden.training.record import read_rows

log = logging.getLogger(__name__)
RUNS = "runs"  # in the current directory, unless trainer.default_root_dir names another
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
_made: list[Path] = []  # the folders that this process has made for its run, innermost first
EVALUATIONS = ("_validate", "_test", "_predict")  # how the directories of those commands end


def make_run_directory(parent: Path, suffix: str = "") -> Path:
    """Make and return `parent/<time><suffix>`; two runs in the same second get different names.

    Raises:
        UserError: The directory cannot be written.
    """
    time = datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + _slurm_job() + suffix
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
        _made[:] = new
        return directory
    raise AssertionError


def leave_run(refused: bool) -> None:
    """Remove what this process has made for a run that left nothing, or that was refused before it trained.

    As the newest it would be what `last` means.
    """
    if _made and refused and not (_made[0] / "metrics.csv").exists() and not any(_made[0].glob("checkpoints/*.ckpt")):
        shutil.rmtree(_made[0], ignore_errors=True)
    for folder in _made:
        with suppress(OSError):  # there is something in it, or it is gone
            folder.rmdir()
    _made.clear()


def _slurm_job() -> str:
    """Return what ends a run's directory under SLURM, so that the job finds it when it is queued again."""
    return f"_job{os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else ""


def requeued_run(root: Path) -> str | None:
    """Return the run that this SLURM job began before it was queued again, or None."""
    if int(os.environ.get("SLURM_RESTART_COUNT", 0)) == 0:
        return None
    runs = (file.parents[1] for file in root.glob(f"*/*{_slurm_job()}/checkpoints/{LAST}"))
    return max(map(str, runs), default=None)


def find_checkpoint(wanted: str, root: Path, name: str | None, default: str) -> Path:
    """Return the checkpoint file that `--ckpt_path wanted` means.

    Args:
        wanted: A checkpoint file, a run directory, or `best` or `last` of the newest run.
        root: The directory of all runs.
        name: Look for the newest run among this experiment's only.
        default: Which checkpoint of a run directory to take, `best` or `last`.

    Raises:
        UserError: There is none, or none that is whole.
    """
    path = Path(wanted)
    if wanted in ("best", "last"):
        runs = [file.parent for file in root.glob(f"{name or '*'}/*/config.yaml")]
        runs = [run for run in runs if not run.name.endswith(EVALUATIONS)]
        if not runs:
            raise UserError(
                f"there is no run in {root / (name or '*')}; train first with `leyden fit`, "
                "or give --ckpt_path a file or a run directory"
            )
        path, default = max(runs, key=lambda run: run.name), wanted  # a directory's name is its time
    if path.is_dir():
        return _newest_whole(path) if default == "last" else _existing(path / "checkpoints" / BEST)
    return _existing(path)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; --ckpt_path takes a file, a run directory, `best` or `last`")
    return path


def _newest_whole(run: Path) -> Path:
    """Return the newest whole checkpoint of a run, and say which ones are not whole.

    `best.ckpt` and others are taken only where `last.ckpt` and the one before it are not to be had: they are saved
    before the end of their epoch is on disk.
    """
    whole, damaged = [], []
    for path in (run / "checkpoints").glob("*.ckpt"):
        try:
            whole.append((path.name in (LAST, PREVIOUS), read_checkpoint(path)["global_step"], path))
        except UserError as error:
            damaged.append(error)
    if not whole:
        why = f"{damaged[0]}" if damaged else "it ended before the first was saved: start it again"
        raise UserError(f"no checkpoint to go on from in {run}: {why}")
    for reason in damaged:
        log.warning("passed over: %s", reason)
    return max(whole)[-1]


def best_scores(checkpoint: Checkpoint | None, directory: Path) -> dict[str, float]:
    """Return the scores, and the `epoch`, with which the best checkpoint was saved; nothing where none is known.

    Args:
        checkpoint: What saved it.
        directory: The run's directory; without `metrics.csv` in it, only the one score is known that decided.
    """
    if not isinstance(checkpoint, ModelCheckpoint) or checkpoint.best_model_score is None:
        return {}
    best, monitor, file = float(checkpoint.best_model_score), str(checkpoint.monitor), directory / "metrics.csv"
    rows = read_rows(file).values() if file.exists() else ()
    return next((row for row in rows if row.get(monitor) == best), {monitor: best})
