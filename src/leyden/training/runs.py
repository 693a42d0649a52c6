"""Run directories and the checkpoint files in them.

runs/<name>/<time>/          one run of `leyden fit`
    config.yaml              the resolved configuration that repeats it
    checkpoints/best.ckpt    lowest val/loss
    checkpoints/last.ckpt    where a resumed run goes on
    checkpoints/previous.ckpt    the last.ckpt before it
    metrics.csv, curves.png
    launch.json              under SLURM and torchrun: the command, which goes on here when it is started again
    .lock                    held by the process that trains here
runs/<name>/<time>_test/     one evaluation, likewise _validate and _predict

A name may be a path: --name group/a makes runs/group/a/<time>/.
"""

import errno
import fcntl
import itertools
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from leyden.errors import UserError
from leyden.training.checkpoint_io import read_checkpoint
from leyden.training.record import is_evaluation, read_rows

log = logging.getLogger(__name__)
RUNS = "runs"  # in the current directory, unless trainer.default_root_dir names another
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
LOCK = ".lock"
TIME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")  # how the name of a run's directory begins
_made: list[Path] = []  # the folders that this process has made for its run, innermost first
_locks: list[TextIO] = []  # the open files by which this process holds its run


def check_name(name: str) -> None:
    """Refuse a name that would place the run outside of the directory of all runs.

    Raises:
        UserError: It would.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(
            f"--name {name} is no folder in {RUNS}/: give a name, or a path below it such as group/a; "
            f"--trainer.default_root_dir chooses another place than {RUNS}/"
        )


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
        _made[:] = new
        return directory
    raise AssertionError


def lock_run(directory: Path) -> None:
    """Hold a run's directory until this process ends, however it ends, so that no other trains in it.

    A POSIX lock belongs to one process. One of `flock` would be inherited by forked workers, which outlive a kill.

    Raises:
        UserError: Another process holds it, or the directory cannot be written.
    """
    try:
        file = (directory / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write the run to {directory} ({error.strerror})") from error
    _locks.append(file)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(f"{directory} is being trained by {holder}: wait for its end, or stop it") from error
        log.warning("%s cannot be locked (%s): do not train in it twice at once", directory, error.strerror)
        return
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()


def leave_run(refused: bool) -> None:
    """Release the run, and remove what was made for one that left nothing, or was refused before it trained."""
    while _locks:
        _locks.pop().close()
    if _made:
        with suppress(OSError):  # it is gone
            files = {file.name for file in _made[0].iterdir()} - {LOCK}
            if not files or (refused and "metrics.csv" not in files and not has_checkpoint(_made[0])):
                shutil.rmtree(_made[0])
    for folder in _made:
        with suppress(OSError):  # there is something in it, or it is gone
            folder.rmdir()
    _made.clear()


def all_runs(root: Path) -> list[Path]:
    """Return the runs of training below a folder, the oldest first."""

    def found() -> Iterator[Path]:
        for folder, folders, files in os.walk(root, followlinks=True):
            if TIME.match(Path(folder).name):
                folders.clear()  # what is in a run is no run
                if "config.yaml" in files:
                    yield Path(folder)

    return sorted((run for run in found() if not is_evaluation(run)), key=lambda run: run.name)


def has_checkpoint(run: Path) -> bool:
    """Say whether a run has saved anything to go on from."""
    return any(run.glob("checkpoints/*.ckpt"))


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
        runs, empty = all_runs(root / (name or "")), []
        while runs and not has_checkpoint(runs[-1]):
            empty.append(runs.pop().name)
        if not runs:
            raise UserError(
                f"there is no run in {root / (name or '*')} with a checkpoint; train first with `leyden fit`, "
                "or give --ckpt_path a file or a run directory"
            )
        if empty:
            rank_zero_only(log.warning)("passed over, as no checkpoint was saved: %s", " ".join(empty))
        path, default = runs[-1], wanted
    if path.is_dir():
        return _newest_whole(path) if default == "last" else _best(path)
    return _existing(path)


def _best(run: Path) -> Path:
    """Return a run's best checkpoint: best.ckpt, or the one that its newest checkpoint names as the best."""
    folder = run / "checkpoints"
    others = [] if (folder / BEST).is_file() else sorted(folder.glob("*.ckpt"), key=os.path.getmtime, reverse=True)
    for file in others:
        with suppress(UserError):  # damaged
            for state in read_checkpoint(file).get("callbacks", {}).values():
                best = Path(state.get("best_model_path", "") if isinstance(state, dict) else "")
                for path in (folder / best.name, best):  # the run may have been moved
                    if path.is_file():
                        return path
    return _existing(folder / BEST)


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
