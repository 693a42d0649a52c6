"""Run directories and the files in them.

runs/<name>/<time>/          one run of `leyden fit`
    config.yaml              the resolved configuration, which repeats the run
    checkpoints/best.ckpt    lowest val/loss
    checkpoints/last.ckpt    from which the run resumes
    checkpoints/previous.ckpt    the last.ckpt before that
    metrics.csv, curves.png
    launch.json              under SLURM, torchrun and `leyden repeat`: the command; restarted, it resumes this run
    .lock                    held by the process that trains this run
runs/<name>/<time>_test/     one evaluation; also _validate and _predict
runs/<name>/seed-0_fold-1/<time>/    one run of `leyden repeat`

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
from typing import TYPE_CHECKING, TextIO

from leyden.errors import UserError
from leyden.runs.metrics import is_evaluation

if TYPE_CHECKING:  # `leyden repeat` needs no torch
    from lightning.pytorch import Trainer

log = logging.getLogger(__name__)
RUNS = "runs"  # in the current directory, unless trainer.default_root_dir is set
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
LOCK = ".lock"
TIME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")  # start of the name of a run's directory
_new_folders: list[Path] = []  # that this process made for its run, innermost first
_locks: list[TextIO] = []  # open files whose POSIX locks this process holds


def check_name(name: str) -> None:
    """Refuse a name that leads outside the directory of all runs.

    Raises:
        UserError: The name is absolute, empty or contains `..`.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(
            f"--name {name} is no folder in {RUNS}/: give a name, or a path below it such as group/a; "
            f"--trainer.default_root_dir replaces {RUNS}/"
        )


def make_run_directory(parent: Path, suffix: str = "") -> Path:
    """Create and return `parent/<time><suffix>`; two runs in the same second get different names.

    Raises:
        UserError: The directory cannot be written.
    """
    time = datetime.now().strftime("%Y-%m-%d_%H-%M-%S") + suffix
    for number in itertools.count(1):
        directory = parent / (time if number == 1 else f"{time}-{number}")
        new = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        try:
            directory.mkdir(parents=True)  # fails if it exists, also if another process just created it
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                f"cannot write the run to {parent} ({error.strerror}); choose a folder with --trainer.default_root_dir"
            ) from error
        _new_folders[:] = new
        return directory
    raise AssertionError


def lock_run(directory: Path) -> None:
    """Lock a run's directory until this process ends, in whatever way, so that no other process trains in it.

    A POSIX lock belongs to one process. A lock by `flock` would be inherited by forked workers, which survive a kill.

    Raises:
        UserError: Another process holds the lock, or the directory cannot be written.
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
    """Release the run's lock; delete the new directory of a run that is empty or was refused before training."""
    while _locks:
        _locks.pop().close()
    if _new_folders:
        with suppress(OSError):  # deleted meanwhile
            files = {file.name for file in _new_folders[0].iterdir()} - {LOCK}
            if not files or (refused and "metrics.csv" not in files and not has_checkpoint(_new_folders[0])):
                shutil.rmtree(_new_folders[0])
    for folder in _new_folders:
        with suppress(OSError):  # not empty, or deleted meanwhile
            folder.rmdir()
    _new_folders.clear()


def all_runs(root: Path) -> list[Path]:
    """Return the training runs below a folder, oldest first."""

    def directories() -> Iterator[Path]:
        for folder, folders, files in os.walk(root, followlinks=True):
            if TIME.match(Path(folder).name):
                folders.clear()  # a run contains no other runs
                if "config.yaml" in files:
                    yield Path(folder)

    return sorted((run for run in directories() if not is_evaluation(run)), key=lambda run: run.name)


def has_checkpoint(run: Path) -> bool:
    """Return whether a run has saved a checkpoint."""
    return any(run.glob("checkpoints/*.ckpt"))


def run_directory(trainer: "Trainer") -> Path:
    """Return rank 0's run directory on all ranks (a collective call: every rank must make it)."""
    return Path(trainer.strategy.broadcast(trainer.default_root_dir))


def short_path(path: str | Path) -> str:
    """Return a path relative to the current directory if that is shorter, else unchanged."""
    return min(str(path), os.path.relpath(path), key=len)
