"""metrics.csv, also of a run that is resumed."""

import csv
from pathlib import Path
from typing import cast

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter


class MetricsLogger(CSVLogger):
    """Lightning's CSVLogger, but where a `metrics.csv` exists it goes on below its last row.

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


class _Continued(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:  # where the stock one deletes the file
        file = Path(self.metrics_file_path)
        if file.exists():
            with file.open(newline="", encoding="utf-8") as lines:
                self.metrics_keys = list(next(csv.reader(lines), []))


def rewind_metrics(file: Path, step: int) -> None:
    """Take out of a `metrics.csv` what a run logged after the checkpoint from which it is resumed.

    Args:
        file: It may be missing.
        step: Number of optimizer steps before the checkpoint; rows count them from 0.
    """
    if not file.exists():
        return
    with file.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    at = header.index("step")
    part = file.with_name(f".{file.name}.part")
    with part.open("w", newline="", encoding="utf-8") as lines:
        # a kill can leave the last row incomplete
        csv.writer(lines).writerows([header, *(row for row in rows if len(row) == len(header) and int(row[at]) < step)])
    part.replace(file)
