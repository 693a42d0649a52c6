"""What the files of a run's directory say, read without torch."""

import csv
from pathlib import Path

PALETTE = [  # told apart by the colour-blind as well (Okabe and Ito, 2008), the darkest first
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
]


def run_title(directory: Path) -> str:
    """Return what a run is called in pictures: its experiment and its time."""
    return f"{directory.parent.name} {directory.name}"


def read_rows(file: Path) -> dict[int, dict[str, float]]:
    """Read a `metrics.csv` into {step: {name: value}}, `epoch` among the names, without the cells that are empty."""
    steps: dict[int, dict[str, float]] = {}
    with file.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            cells = {name: float(value) for name, value in row.items() if value and name != "step"}
            steps.setdefault(int(row["step"]), {}).update(cells)
    return steps


def read_metrics(file: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Read a `metrics.csv` into {metric: (epochs, values)}."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for row in read_rows(file).values():
        for name, value in row.items():
            if name != "epoch":
                epochs, values = curves.setdefault(name, ([], []))
                epochs.append(row["epoch"])
                values.append(value)
    return curves
