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

from lightning.pytorch import Trainer

from leyden.errors import UserError
from leyden.runs.metrics import is_evaluation

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


def run_directory(trainer: Trainer) -> Path:
    """Return the run's directory, rank 0's on all ranks (a collective call: every rank must make it)."""
    return Path(trainer.strategy.broadcast(trainer.default_root_dir))


def short_path(path: str | Path) -> str:
    """Return a path relative to the current directory where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)
