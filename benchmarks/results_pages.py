"""Turn the rows of docs/results.csv into tables and headers: pure functions from rows to text.

A row is one run of an experiment with one seed, or one of its baselines, whose `seed` is empty. Scores of several seeds
are written as a mean with its 95 % interval (Student's t), rounded to the first significant digit of the interval's
half-width, or to the second if the first is a 1. A score of one seed has no interval: it is rounded to the first
significant digit of the 95 % interval that follows from the size of the test set.
"""

import re
import statistics
from collections.abc import Callable, Iterable

from leyden.runs.statistics import decimals, half_width

Row = dict[str, str]
MARKS = ("<!-- written by make results -->\n", "<!-- end of what make results writes -->\n")
METRIC_NAMES = {"test/acc": "", "test/bpd": "bits per pixel ", "test/loss": "mean squared error "}
FOOTNOTE = "\n\\* Measured with an earlier version of the configuration; `make results` measures it again.\n"
README_EXPERIMENTS = (  # the README's rows: every task, from seconds to an hour
    "convnet_digits",
    "mlp_mnist",
    "lstm_mnist",
    "strong_mnist",
    "resnet_cifar10",
    "imagegpt_digits",
)


def runs_of(rows: list[Row], name: str) -> list[Row]:
    """Return the runs of an experiment, sorted by seed."""
    found = [row for row in rows if row["config"] == name and row["seed"]]
    return sorted(found, key=lambda row: int(row["seed"]))


def score(runs: list[Row]) -> tuple[str, Callable[[str], str]]:
    """Return the score of an experiment as text, and a function that formats other scores with the same decimals."""
    scale, unit = (100, " %") if runs[0]["metric"] == "test/acc" else (1, "")
    values = [scale * float(run["score"]) for run in runs]
    test_error = scale * float(runs[0]["test_error"])
    error = half_width(values) if len(values) > 1 else 0.0
    digits = decimals(error) if error else decimals(test_error, second=False)

    def format_score(value: str) -> str:
        return f"{scale * float(value):.{digits}f}{unit}"

    spread = f" ± {error:.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}{unit}", format_score


def mirror_text(runs: list[Row]) -> str:
    """Return the mean score with mirrored test images as a supplement to the score, "" if none was measured."""
    _, format_score = score(runs)
    return f"with the mirror image {format_score(str(mean(runs, 'mirror')))}" if runs[0]["mirror"] else ""


def is_current(runs: list[Row]) -> bool:
    """Return whether all runs were measured with the configuration as it is now."""
    return all(run["fingerprint"] for run in runs)


def score_cell(runs: list[Row]) -> str:
    """Return an experiment's score as a table shows it."""
    text = METRIC_NAMES[runs[0]["metric"]] + score(runs)[0] + (", one seed" if len(runs) == 1 else "")
    return "; ".join(filter(None, [text, mirror_text(runs)])) + ("" if is_current(runs) else " *")


def baseline_cell(rows: list[Row], runs: list[Row]) -> str:
    """Return an experiment's baselines with the decimals of its score."""
    _, format_score = score(runs)
    found = [row for row in rows if row["config"] == runs[0]["config"] and not row["seed"]]
    return ", ".join(f"{row['model']} {format_score(row['score'])}" for row in found)


def mean(runs: list[Row], column: str) -> float:
    """Return the mean of a column."""
    return statistics.mean(float(run[column]) for run in runs)


def cpu_time(runs: list[Row]) -> str:
    """Return the mean CPU time of an experiment's command."""
    return f"{mean(runs, 'cpu_seconds'):.0f} s"


def ordered(rows: list[Row]) -> list[str]:
    """Return the names of the experiments, grouped by dataset."""
    return list(dict.fromkeys(row["config"] for row in sorted(rows, key=lambda row: (row["data"], row["config"]))))


def table(rows: list[Row], names: Iterable[str], columns: dict[str, Callable[[list[Row]], str]]) -> str:
    """Return a table with one line per experiment, and below it the machine, the date and what `*` means.

    Args:
        rows: All rows.
        names: The experiments.
        columns: Title of each column, and a function from an experiment's runs to its cell.
    """
    experiments = [runs_of(rows, name) for name in names]
    lines = [list(columns), *([cell(runs) for cell in columns.values()] for runs in experiments)]
    title, *body = (f"| {' | '.join(line)} |\n" for line in lines)
    text = "".join([title, "|---" * len(columns), "|\n", *body])
    shown = [run for runs in experiments for run in runs]
    dates = [min(run["date"] for run in shown), max(run["date"] for run in shown)]
    machines = " and ".join(sorted({run["machine"] for run in shown}))
    text += f"\nMachine: {machines}; measured {' to '.join(dict.fromkeys(dates))}.\n"
    return text if is_current(shown) else text + FOOTNOTE


def readme_table(rows: list[Row]) -> str:
    """Return the README's table: `README_EXPERIMENTS`, or six others in a fork that has none of them."""
    return table(
        rows,
        [name for name in README_EXPERIMENTS if runs_of(rows, name)] or ordered(rows)[:6],
        {
            "configuration": lambda runs: f"`{runs[0]['config']}`",
            "parameters": lambda runs: f"{int(runs[0]['parameters']):,}",
            "test score": score_cell,
            "seeds": lambda runs: str(len(runs)),
            "baseline": lambda runs: baseline_cell(rows, runs),
            "CPU time": cpu_time,
        },
    )


def full_table(rows: list[Row]) -> str:
    """Return the table of docs/results.md: every experiment that was measured."""
    return table(
        rows,
        ordered(rows),
        {
            "configuration": lambda runs: f"[{runs[0]['config']}](../configs/{runs[0]['config']}.yaml)",
            "model": lambda runs: f"`{runs[0]['model']}`",
            "data": lambda runs: runs[0]["data"],
            "parameters": lambda runs: f"{int(runs[0]['parameters']):,}",
            "epochs": lambda runs: runs[0]["epochs"],
            "test score": score_cell,
            "seeds": lambda runs: ", ".join(run["seed"] for run in runs),
            "baseline": lambda runs: baseline_cell(rows, runs),
            "CPU time": cpu_time,
            "peak memory": lambda runs: f"{mean(runs, 'peak_mib'):,.0f} MiB",
        },
    )


def with_table(text: str, new: str) -> str:
    """Return a page with another table between its `MARKS`."""
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return before + MARKS[0] + new + MARKS[1] + after


def header(text: str, name: str, rows: list[Row]) -> str:
    """Return an experiment's file with its measured result as the third line."""
    runs = runs_of(rows, name)
    first, second, _, *rest = text.splitlines(keepends=True)
    seeds = f"95 %, {len(runs)} seeds" if len(runs) > 1 else "one seed"
    machines = " and ".join(dict.fromkeys(re.sub(r" \(.*?\)|,.*", "", run["machine"]) for run in runs))
    parts = [
        f"{score(runs)[0]} ({seeds}), {mean(runs, 'cpu_seconds'):.0f} CPU seconds on {machines}",
        mirror_text(runs),
    ]
    parts += [baseline_cell(rows, runs), "" if is_current(runs) else "of an earlier configuration"]
    line = f"# {runs[0]['metric']} {'; '.join(filter(None, parts))}\n"
    return "".join([first, second, line, *rest])
