"""What is known of evaluations: predictions compared sample by sample, and how often a test split was scored."""

import csv
import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import yaml

from leyden.errors import UserError
from leyden.runs.metrics import read_rows

PREDICTIONS = "predictions.csv"
Z = 1.96  # of the normal distribution: test splits are large


def prediction_lines(folders: Sequence[Path]) -> Iterator[str]:
    """Yield the accuracy of each predictions.csv, and the difference of each two on the same samples.

    Args:
        folders: Directories of `leyden predict`.

    Raises:
        UserError: A file has no classes and truths, or the samples of two files differ.
    """
    tables = {folder: _read(folder / PREDICTIONS) for folder in folders}
    for folder, table in tables.items():
        right = [predicted == truth for predicted, truth in table.values()]
        yield f"{folder.name}  accuracy {statistics.mean(right):.4f} of {len(right):,} samples"
    for one, other in combinations(folders, 2):
        a, b = tables[one], tables[other]
        if [(index, truth) for index, (_, truth) in a.items()] != [(index, truth) for index, (_, truth) in b.items()]:
            raise UserError(f"{one} and {other} are predictions for different samples")
        differences = [(a[i][0] == a[i][1]) - (b[i][0] == b[i][1]) for i in a]
        mean, error = statistics.mean(differences), statistics.pstdev(differences) / math.sqrt(len(differences))
        low, high = mean - Z * error, mean + Z * error
        only = f"only the first is right on {differences.count(1):,}, only the second on {differences.count(-1):,}"
        yield f"{one.name} - {other.name}: {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f} over samples; {only}"


def _read(file: Path) -> dict[str, tuple[str, str]]:
    """Return {index: (predicted class, true class)} of a file."""
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        if not {"index", "class", "truth"} <= {*(reader.fieldnames or [])}:
            raise UserError(f"{file} has no classes and truths of samples, so it cannot be compared")
        table = {row["index"]: (row["class"], row["truth"]) for row in reader}
    if not table:
        raise UserError(f"{file} is empty")
    return table


def count_looks(root: Path, data: str) -> int:
    """Return how often runs in a folder have scored the test split of a dataset.

    Args:
        root: The folder of all runs.
        data: Name of the DataModule's class.
    """
    return sum(_looks(file) for file in root.rglob("metrics.csv") if _data_of(file.parent) == data)


def _looks(file: Path) -> int:
    return sum(any(name.startswith("test/") for name in row) for row in read_rows(file).values())


def _data_of(run: Path) -> str:
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        return str(config["data"]["class_path"]).rpartition(".")[2]
    except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):  # no run, or one without data
        return ""
