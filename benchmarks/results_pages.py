"""What the rows of docs/results.csv say on the pages: pure functions from rows to text, which a test repeats.

A row is a run of one experiment with one seed, or one of its baselines, whose `seed` is empty. Several seeds are a mean
with its 95 % interval (Student's t), rounded to the first significant digit of the interval's half-width, or to the
second where the first is a 1. One seed has no interval: it is rounded to the first digit of the 95 % interval that the
finite test set leaves.
"""

import math
import re
import statistics
from collections.abc import Callable

from scipy import stats

Row = dict[str, str]
MARKS = ("<!-- written by make results -->\n", "<!-- end of what make results writes -->\n")
WORDS = {"test/acc": "", "test/bpd": "bits per pixel ", "test/loss": "mean squared error "}
HEAD = """# Results

Written by `make results` ([how](../benchmarks/results.py)); each run is a row of [results.csv](results.csv). The score
is that of the checkpoint with the lowest validation loss, on the official test split where the data have one; the
validation samples are never trained on. CPU time and peak memory are those of the whole command with one torch thread,
start-up, validation and test included, and means where there are several seeds.

There are five seeds where a run takes less than two minutes, three up to ten, one above. Several are a mean with its
95 % interval (Student's t), which is about the seed: initial weights, order, augmentation, dropout. The test set is the
same for all, and another of 10 000 images would move an accuracy of 98 % by up to 0.3 points. One seed has no more
digits than its test set allows. Another processor moves a run by about as much as another seed does: with the seeds 0,
1 and 2 an earlier `convnet_digits` had 98.89, 99.17 and 98.06 %, measured on an AMD EPYC, and 99.17, 98.33 and 98.61 %
on an Intel Xeon.

The baselines ([how](../benchmarks/classical.py)) see the same arrays and are fitted to the same training split. Their
smoothing or penalty is the best on the validation split. They are shown with the digits of the score beside them.

"""


def runs_of(rows: list[Row], name: str) -> list[Row]:
    """Return the runs of an experiment, by seed."""
    found = [row for row in rows if row["config"] == name and row["seed"]]
    return sorted(found, key=lambda row: int(row["seed"]))


def half_width(values: list[float]) -> float:
    """Return half the width of the 95 % interval of the mean of several values, by Student's t."""
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def decimals(error: float, second: bool = True) -> int:
    """Return how many decimals there are to the first significant digit of an error.

    Args:
        error: The error, above 0.
        second: Whether to go on to the second digit where the first is a 1.
    """
    first = math.floor(math.log10(error))
    return max(0, -first + (second and error < 2 * 10**first))


def score(runs: list[Row]) -> tuple[str, Callable[[str], str]]:
    """Return the score of an experiment as text, and what writes another score with the same decimals."""
    scale, unit = (100, " %") if runs[0]["metric"] == "test/acc" else (1, "")
    values = [scale * float(run["score"]) for run in runs]
    test_error = scale * float(runs[0]["test_error"])
    error = half_width(values) if len(values) > 1 else 0.0
    digits = decimals(error) if error else decimals(test_error, second=False)

    def write(value: str) -> str:
        return f"{scale * float(value):.{digits}f}{unit}"

    spread = f" ± {error:.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}{unit}", write


def mirror_text(runs: list[Row]) -> str:
    """Return the mean score with the mirror images as an addition to the score, empty where there is none."""
    _, write = score(runs)
    return f"with the mirror image {write(str(mean(runs, 'mirror')))}" if runs[0]["mirror"] else ""


def score_cell(runs: list[Row]) -> str:
    """Return an experiment's score as a table has it."""
    text = WORDS[runs[0]["metric"]] + score(runs)[0] + (", one seed" if len(runs) == 1 else "")
    mark = "" if all(run["fingerprint"] for run in runs) else " *"
    return "; ".join(filter(None, [text, mirror_text(runs)])) + mark


def remark(rows: list[Row]) -> str:
    """Return what the mark in `score_cell` means, where there is one."""
    if all(row["fingerprint"] for row in rows):
        return ""
    return "\n\\* Of an earlier configuration, with fewer seeds; to be measured again by `make results`.\n"


def baseline_cell(rows: list[Row], runs: list[Row]) -> str:
    """Return an experiment's baselines with the decimals of its score."""
    _, write = score(runs)
    found = [row for row in rows if row["config"] == runs[0]["config"] and not row["seed"]]
    return ", ".join(f"{row['model']} {write(row['score'])}" for row in found)


def mean(runs: list[Row], column: str) -> float:
    """Return the mean of a column."""
    return statistics.mean(float(run[column]) for run in runs)


def ordered(rows: list[Row]) -> list[str]:
    """Return the names of the experiments, those on the same data together."""
    return list(dict.fromkeys(row["config"] for row in sorted(rows, key=lambda row: (row["data"], row["config"]))))


def titles(*columns: str) -> str:
    """Return the first two lines of a table."""
    return f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n"


def page(rows: list[Row]) -> str:
    """Return docs/results.md."""
    dates = sorted({row["date"] for row in rows})
    machines = " and ".join(sorted({row["machine"] for row in rows}))
    text = f"{HEAD}Machine: {machines}; measured {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}.\n\n"
    rest = ("epochs", "test score", "seeds", "baseline", "CPU time", "peak memory")
    text += titles("configuration", "model", "data", "parameters", *rest)
    for name in ordered(rows):
        link, runs = f"[{name}](../configs/{name}.yaml)", runs_of(rows, name)
        first = runs[0]
        seeds = ", ".join(run["seed"] for run in runs)
        text += (
            f"| {link} | `{first['model']}` | {first['data']} | {int(first['parameters']):,} | {first['epochs']} "
            f"| {score_cell(runs)} | {seeds} | {baseline_cell(rows, runs)} | {mean(runs, 'cpu_seconds'):.0f} s "
            f"| {mean(runs, 'peak_mib'):,.0f} MiB |\n"
        )
    return text + remark(rows)


def readme_table(rows: list[Row]) -> str:
    """Return the README's table of results."""
    text = titles("configuration", "model", "data", "parameters", "test score", "baseline", "CPU time")
    for name in ordered(rows):
        runs = runs_of(rows, name)
        first = runs[0]
        text += f"| `{name}` | `{first['model']}` | {first['data']} | {int(first['parameters']):,} "
        text += f"| {score_cell(runs)} | {baseline_cell(rows, runs)} | {mean(runs, 'cpu_seconds'):.0f} s |\n"
    return text + remark(rows)


def readme(text: str, rows: list[Row]) -> str:
    """Return the README with its table of results written anew."""
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return before + MARKS[0] + readme_table(rows) + MARKS[1] + after


def header(text: str, name: str, rows: list[Row]) -> str:
    """Return an experiment's file with its measured result in the third line."""
    runs = runs_of(rows, name)
    first, second, _, *rest = text.splitlines(keepends=True)
    seeds = f"95 %, {len(runs)} seeds" if len(runs) > 1 else "one seed"
    machines = " and ".join(dict.fromkeys(re.sub(r" \(.*?\)|,.*", "", run["machine"]) for run in runs))
    cost = f"{mean(runs, 'cpu_seconds'):.0f} CPU seconds on {machines}"
    parts = [f"{score(runs)[0]} ({seeds}), {cost}", mirror_text(runs), baseline_cell(rows, runs)]
    line = f"# {runs[0]['metric']} {'; '.join(filter(None, parts))}\n"
    return "".join([first, second, line, *rest])
