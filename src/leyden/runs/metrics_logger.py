"""metrics.csv, also of a run that is resumed, or whose disk is full."""

import csv
import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from leyden.errors import RunError
from leyden.runs.durable import replacing

Row = dict[str, Any]  # {metric: value}, with the step


class MetricsLogger(CSVLogger):
    """Lightning's CSVLogger, but where a `metrics.csv` exists it goes on below its last row.

    Rows that cannot be written are kept in memory and tried again with the next ones. The next checkpoint takes them
    along, and then the run ends: a resumed run writes them.

    Args:
        save_dir: The run's directory; filled in by the command line.
    """

    def __init__(self, save_dir: str = ".") -> None:
        super().__init__(save_dir, name="", version="")

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """What writes the file."""
        if self._experiment is None:
            self._experiment = _Continued(self.log_dir)
        return cast("ExperimentWriter", self._experiment)

    @property
    def unwritten(self) -> list[Row]:
        """The rows that could not be written; none on ranks other than 0."""
        return self._experiment.metrics if isinstance(self._experiment, _Continued) and self._experiment.fault else []

    def check_written(self, where: str) -> None:
        """Refuse to go on with rows that could not be written.

        Args:
            where: What has become of them, for the message.

        Raises:
            RunError: There are some.
        """
        if self.unwritten:
            writer = cast("_Continued", self._experiment)
            fault = cast("OSError", writer.fault)
            raise RunError(f"cannot write {writer.metrics_file_path} ({fault.strerror}): its last rows are {where}")

    def finalize(self, status: str) -> None:
        """Write the last rows.

        Raises:
            RunError: They cannot be written, and nothing worse has happened before.
        """
        super().finalize(status)
        if status == "success":
            self.check_written("lost")


class _Continued(ExperimentWriter):
    fault: OSError | None = None  # why the rows in memory are not in the file

    def _check_log_dir_exists(self) -> None:  # where the stock one deletes the file
        file = Path(self.metrics_file_path)
        if file.exists():
            with file.open(newline="", encoding="utf-8") as lines:
                self.metrics_keys = list(next(csv.reader(lines), []))

    def save(self) -> None:
        """Write the rows. Those before them stay whole, whatever happens; the stock one writes new columns in place."""
        if not self.metrics:
            return
        file, columns = Path(self.metrics_file_path), list(self.metrics_keys)
        try:
            if columns and not file.exists():  # with its directory, say, which a checkpoint makes anew
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if self._record_new_keys():
                _write_rows(file, self.metrics_keys, [*_read_rows(file)[1], *self.metrics])
            else:
                _append_rows(file, self.metrics_keys, self.metrics)
        except OSError as fault:
            self.metrics_keys, self.fault = columns, fault
        else:
            self.metrics, self.fault = [], None


def logged_steps(checkpoint: dict[str, Any]) -> int:
    """Return how many steps the loggers have counted before a checkpoint, whose rows are 0 to one less.

    With manual optimization that is each batch, however many optimizers step; `global_step` counts the steps of each.
    """
    loops = checkpoint["loops"]["fit_loop"]
    if loops["epoch_loop.manual_optimization.optim_step_progress"]["total"]["completed"]:
        batches: int = loops["epoch_loop.batch_progress"]["total"]["processed"]
        return batches
    steps: int = checkpoint["global_step"]
    return steps


def rewind_metrics(file: Path, step: int, unwritten: Sequence[Row] = ()) -> None:
    """Take out of a `metrics.csv` what a run logged after the checkpoint from which it is resumed.

    Args:
        file: It may be missing.
        step: How many steps the loggers had counted before the checkpoint; rows count them from 0.
        unwritten: Rows from before the checkpoint that could not be written then, to be added.
    """
    columns, rows = _read_rows(file)
    if "step" not in columns:  # killed before its first row
        columns, rows = [], []
    # a kill can leave the last row incomplete, and the reader then fills up with None
    rows = [row for row in rows if None not in (*row, *row.values()) and int(row["step"]) < step]
    held = [{name: value for name, value in row.items() if value} for row in rows]
    texts = ({name: str(value) for name, value in row.items()} for row in unwritten)
    rows += [row for row in texts if row not in held]  # an earlier resume may have added them
    columns += sorted({name for row in rows for name in row}.difference(columns))
    if columns:
        _write_rows(file, columns, rows)


def _read_rows(file: Path) -> tuple[list[str], list[Row]]:
    if not file.exists():
        return [], []
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        return list(reader.fieldnames or []), list(reader)


def _write_rows(file: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a whole file, beside the old one, which it then replaces."""
    try:
        with replacing(file) as part, part.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, columns)
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error  # a full disk has no name of its own


def _append_rows(file: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows below the last one: all of them, or none."""
    size = file.stat().st_size
    try:
        with file.open("a", newline="", encoding="utf-8") as lines:
            csv.DictWriter(lines, columns).writerows(rows)
    except OSError:
        with suppress(OSError):
            os.truncate(file, size)
        raise
