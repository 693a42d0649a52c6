"""Write `metrics.csv`, also in a resumed run and on a full disk."""

import csv
import errno
import os
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from leyden.durable import replacing
from leyden.errors import RunError

Row = dict[str, Any]  # {metric: value}, with the step
STEPS_BETWEEN_SAVES = 100  # for callbacks that call `log_metrics`; after `self.log`, Lightning saves each row


class MetricsLogger(Logger):
    """Log to `metrics.csv`: a row for each call, a column for each metric. An existing file is continued.

    Rows that cannot be written stay in memory, and each save tries again. The next checkpoint stores them and the run
    ends; a resumed run writes them.

    Args:
        save_dir: The run's directory; filled in by the command line.
    """

    def __init__(self, save_dir: str = ".") -> None:
        super().__init__()
        self.directory = Path(save_dir)
        self.file = self.directory / "metrics.csv"
        self._columns: list[str] | None = None  # of the file; None before the first save
        self._rows: list[Row] = []  # not written yet
        self._error: OSError | None = None  # why they could not be written
        self._hparams: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Return an empty name: the file is in the run's directory itself."""
        return ""

    @property
    def version(self) -> str:
        """Return an empty version, for the same reason."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's directory."""
        return str(self.directory)

    @property
    def log_dir(self) -> str:
        """The run's directory."""
        return str(self.directory)

    @property
    def unwritten(self) -> list[Row]:
        """The rows that could not be written; empty on all ranks but 0."""
        return self._rows if self._error else []

    def check_written(self, where: str) -> None:
        """Refuse to go on with rows that could not be written.

        Args:
            where: What happened to these rows, for the message.

        Raises:
            RunError: There are such rows.
        """
        if self._error:
            raise RunError(f"cannot write {self.file} ({self._error.strerror}): its last rows are {where}")

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace | None = None) -> None:
        """Add hyper-parameters to `hparams.yaml`; for modules that call it, the command line does not."""
        self._hparams |= vars(params) if isinstance(params, Namespace) else params or {}
        save_hparams_to_yaml(str(self.directory / "hparams.yaml"), self._hparams)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row."""
        step = len(self._rows) if step is None else step
        row = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self._rows.append(row | {"step": step})
        if (step + 1) % STEPS_BETWEEN_SAVES == 0:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the new rows. Earlier rows stay intact if that fails."""
        if not self._rows:
            return
        try:
            if self._columns is None:
                self.directory.mkdir(parents=True, exist_ok=True)
                self._columns = _read_rows(self.file)[0]
            elif not self.file.exists():  # deleted or moved, and a checkpoint may have made the directory anew
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            columns = sorted({*self._columns, *(name for row in self._rows for name in row)})
            if len(columns) > len(self._columns):
                _write_rows(self.file, columns, [*_read_rows(self.file)[1], *self._rows])
                self._columns = columns
            else:
                _append_rows(self.file, self._columns, self._rows)
        except OSError as error:
            self._error = error
        else:
            self._rows, self._error = [], None

    def finalize(self, status: str) -> None:
        """Write the last rows.

        Raises:
            RunError: They cannot be written; not after another error, which is the one to report.
        """
        self.save()
        if status == "success":
            self.check_written("lost")


def logged_steps(checkpoint: dict[str, Any]) -> int:
    """Return how many steps the loggers counted before a checkpoint; their rows have the steps 0 to this minus 1.

    With manual optimization each batch counts as one step, whereas `global_step` counts each optimizer's steps.
    """
    loops = checkpoint["loops"]["fit_loop"]
    if loops["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"]:
        batches: int = loops["epoch_loop.batch_progress"]["total"]["processed"]
        return batches
    steps: int = checkpoint["global_step"]
    return steps


def rewind_metrics(file: Path, step: int, unwritten: Sequence[Row] = ()) -> None:
    """Remove from a `metrics.csv` the rows after the checkpoint from which the run resumes.

    Args:
        file: The `metrics.csv`; it may be missing.
        step: How many steps the loggers had counted before the checkpoint; rows count from 0.
        unwritten: Rows from before the checkpoint that could not be written then; they are added.
    """
    columns, rows = _read_rows(file)
    if "step" not in columns:  # killed before its first row
        columns, rows = [], []
    # a kill can leave the last row incomplete; the reader fills it with None
    rows = [row for row in rows if None not in (*row, *row.values()) and int(row["step"]) < step]
    written = [{name: value for name, value in row.items() if value} for row in rows]
    texts = ({name: str(value) for name, value in row.items()} for row in unwritten)
    rows += [row for row in texts if row not in written]  # an earlier resume may have added them
    columns += sorted({name for row in rows for name in row}.difference(columns))
    if columns:
        _write_rows(file, columns, rows)


def _read_rows(file: Path) -> tuple[list[str], list[Row]]:
    """Return columns and rows of a file; none of either if it does not exist."""
    if not file.exists():
        return [], []
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        return list(reader.fieldnames or []), list(reader)


def _write_rows(file: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Replace a whole file; a kill or a power cut leaves the old or the new one."""
    try:
        with replacing(file) as part, part.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, columns)
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error  # a full disk's error names no file


def _append_rows(file: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Append either all rows or none."""
    size = file.stat().st_size
    try:
        with file.open("a", newline="", encoding="utf-8") as lines:
            csv.DictWriter(lines, columns).writerows(rows)
    except OSError:
        with suppress(OSError):
            os.truncate(file, size)
        raise
