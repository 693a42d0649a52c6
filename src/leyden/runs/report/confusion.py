"""Read a `confusion.csv` for the page."""

import csv
from dataclasses import dataclass
from pathlib import Path

from leyden.errors import UserError

MAX_CLASSES = 30  # with more, the page shows the picture instead of a table
MAX_CONFUSIONS = 5  # that the page lists


@dataclass
class Confusion:
    """Counts of a test split: `counts[i][j]` samples of class i were predicted as class j."""

    names: list[str]
    counts: list[list[int]]

    @property
    def shares(self) -> list[list[float]]:
        """The counts as fractions of the true class."""
        return [[count / max(sum(row), 1) for count in row] for row in self.counts]

    @property
    def frequent(self) -> list[tuple[int, str, str]]:
        """The most frequent confusions: (count, true class, predicted class)."""
        cells = [
            (count, self.names[i], self.names[j])
            for i, row in enumerate(self.counts)
            for j, count in enumerate(row)
            if count and i != j
        ]
        return sorted(cells, key=lambda cell: -cell[0])[:MAX_CONFUSIONS]


def read_confusion(file: Path) -> Confusion | None:
    """Return the confusion matrix; None without the file, or if a table of it would be too large.

    Raises:
        OSError: The file cannot be read.
        UserError: It is no confusion matrix.
    """
    if not file.exists():
        return None
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            header, *rows = csv.reader(lines)
        names, counts = header[1:], [[int(cell) for cell in row[1:]] for row in rows]
        if any(len(row) != len(names) for row in counts) or len(counts) != len(names):
            raise ValueError
    except (ValueError, csv.Error) as error:
        raise UserError(f"{file} is no confusion matrix: remove it, and test the run again") from error
    return Confusion(names, counts) if len(names) <= MAX_CLASSES else None
