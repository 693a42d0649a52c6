"""Train the experiments as configured and write their results: `make results`.

Each run is a row of docs/results.csv, which is saved after every run; the table of docs/results.md, the README's table
and the third line of each configuration are written from these rows. A run is repeated only if the values of its
configuration or of configs/defaults.yaml have changed (comments do not count), so an interrupted measurement continues
where it stopped. To repeat a run for another reason, delete its row.

    python benchmarks/results.py                   # all experiments that lack a run, the shortest first
    python benchmarks/results.py NAME...           # only these
    python benchmarks/results.py --pages           # write the pages from the rows, measure nothing
    python benchmarks/results.py --keep DIRECTORY  # keep the runs, with their checkpoints

Each run is the command `leyden fit --config configs/NAME.yaml --seed_everything SEED` in a separate process with one
torch thread; CPU time and memory are those of that process. `seeds` decides the number of seeds. A run that fails adds
no row and is tried again next time. Each experiment is then compared with its classical baselines
(benchmarks/classical.py), which are repeated when the version of scikit-learn changes.
"""

import argparse
import csv
import datetime
import io
import math
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from classical import baselines_of, class_and_args, fingerprint, gpt_bits, open_run, shortened
from measure import children, machine
from measure import run as run_alone
from results_pages import Row, full_table, header, ordered, readme_table, with_table

from leyden import PROJECT

CONFIGS = PROJECT / "configs"
TABLE = PROJECT / "docs" / "results.csv"
PAGE = PROJECT / "docs" / "results.md"
README = PROJECT / "README.md"
COLUMNS = ["config", "model", "data", "seed", "fingerprint", "metric", "score", "mirror", "test_error", "parameters"]
COLUMNS += ["epochs", "cpu_seconds", "peak_mib", "machine", "date"]
SCORES = ("test/acc", "test/acc_mirror", "test/bpd", "test/loss")


class Task(NamedTuple):
    """A measurement: an experiment with a seed, or one of its baselines, whose seed is empty."""

    config: str
    model: str
    seed: str
    fingerprint: str


def seeds(cpu_seconds: float) -> range:
    """Return the seeds of an experiment, given the CPU seconds of its first run."""
    return range(5 if cpu_seconds < 120 else 3 if cpu_seconds < 600 else 1)


def experiment_print(experiment: dict[str, Any], defaults: dict[str, Any]) -> str:
    """Return a fingerprint of the values of an experiment's configuration."""
    return shortened([experiment, defaults])


def tasks_of(name: str, config: dict[str, Any], defaults: dict[str, Any], rows: list[Row]) -> list[Task]:
    """Return the first run of an experiment; once it is measured, all runs and baselines."""
    model, print_ = class_and_args(config["model"])[0], experiment_print(config, defaults)
    first = Task(name, model, "0", print_)
    for row in rows:
        if task_of(row) == first:
            more = [first._replace(seed=str(seed)) for seed in seeds(float(row["cpu_seconds"]))]
            return more + [Task(name, baseline, "", fingerprint(config, baseline)) for baseline in baselines_of(config)]
    return [first]


def task_of(row: Row) -> Task:
    """Return the task that a row is the result of."""
    return Task(*(row[name] for name in Task._fields))


def missing(names: Iterable[str], configs: dict[str, dict[str, Any]], rows: list[Row]) -> list[Task]:
    """Return the tasks that no row answers: never measured ones first, then the shortest first."""
    done = {task_of(row) for row in rows}
    tasks = [task for name in names for task in tasks_of(name, configs[name], configs["defaults"], rows)]
    times: dict[str, list[float]] = {name: [0.0] for name in names}
    for row in rows:
        if row["config"] in times and row["seed"]:
            times[row["config"]].append(float(row["cpu_seconds"]))
    expected = {name: max(found) for name, found in times.items()}
    return sorted((task for task in tasks if task not in done), key=lambda task: (expected[task.config], task.config))


def add(rows: list[Row], new: Row) -> list[Row]:
    """Return the rows with a new one added and the rows that it makes stale removed."""
    same = [row for row in rows if row["config"] == new["config"] and bool(row["seed"]) == bool(new["seed"])]
    if new["seed"]:
        stale = [row for row in same if row["fingerprint"] != new["fingerprint"]]
    else:
        stale = [row for row in same if row["model"] == new["model"]]
    kept = [row for row in rows if row not in stale]
    return sorted([*kept, new], key=lambda row: (row["config"], not row["seed"], row["seed"]))


def measure(task: Task, config: dict[str, Any], root: Path) -> Row:
    """Measure a run or a baseline.

    Args:
        task: The run or baseline.
        config: The experiment's parsed configuration.
        root: Folder in which the run's directory is made.

    Returns:
        The row of the table.

    Raises:
        RuntimeError: The command failed.
    """
    row = dict.fromkeys(COLUMNS, "") | task._asdict()
    row["data"] = class_and_args(config["data"])[0].removesuffix("DataModule")
    row |= {"machine": machine(), "date": datetime.date.today().isoformat()}
    return row | (measure_run(task, root) if task.seed else measure_baseline(task))


def measure_baseline(task: Task) -> Row:
    """Return the measured columns of a baseline's row."""
    command = [sys.executable, str(Path(__file__).with_name("classical.py")), task.config, task.model]
    seconds, peak, output = run_alone(command)
    metric, score = output.split()[-2:]
    return {"metric": metric, "score": score, "cpu_seconds": f"{seconds:.1f}", "peak_mib": f"{peak:.0f}"}


def measure_run(task: Task, root: Path) -> Row:
    """Return the measured columns of a run's row."""
    command = [sys.executable, "-m", "leyden", "fit", "--config", str(CONFIGS / f"{task.config}.yaml")]
    command += ["--seed_everything", task.seed, "--trainer.enable_progress_bar", "false"]
    seconds, peak, output = run_alone([*command, "--trainer.default_root_dir", str(root)])

    (line,) = [line for line in output.splitlines() if line.startswith("run ")]
    run = Path(shlex.split(line)[1])
    with (run / "metrics.csv").open(newline="") as lines:
        scores = {name: row[name] for row in csv.DictReader(lines) for name in SCORES if row.get(name)}
    metric = next(iter(scores))
    model, data = open_run(run / "checkpoints" / "best.ckpt")
    return {
        "metric": metric,
        "score": scores[metric],
        "mirror": scores.get("test/acc_mirror", ""),
        "test_error": f"{test_error(metric, float(scores[metric]), model, data):.3g}",
        "parameters": str(sum(parameter.numel() for parameter in model.parameters())),
        "epochs": str(yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"]),
        "cpu_seconds": f"{seconds:.1f}",
        "peak_mib": f"{peak:.0f}",
    }


@torch.no_grad()
def test_error(metric: str, score: float, model: Any, data: Any) -> float:
    """Return the half-width of a score's 95 % interval due to the size of the test set, at least one sample's share."""
    count = len(data.test_set)
    if metric == "test/acc":
        return max(1.96 * math.sqrt(score * (1 - score) / count), 1 / count)
    if metric == "test/bpd":
        values = gpt_bits(model, data)
    else:
        x, y = data.test_set[:]
        values = ((model(x) - y) ** 2).flatten(1).mean(dim=1)
    return 1.96 * values.std().item() / math.sqrt(count)


def measure_all(
    names: list[str],
    configs: dict[str, dict[str, Any]],
    rows: list[Row],
    jobs: int,
    measure: Callable[[Task], Row],
    save: Callable[[list[Row]], None],
) -> int:
    """Run the missing measurements, several at a time, and save the rows after each.

    Args:
        names: The experiments to measure.
        configs: All parsed configurations by name, and the defaults.
        rows: The existing rows.
        jobs: Number of runs at a time.
        measure: Returns the row of a task.
        save: Called with all rows after each new one.

    Returns:
        The number of failed runs. The reason of each is printed in one line; they are tried again next time.
    """
    tried: set[Task] = set()
    running: dict[Future[Row], Task] = {}
    failed = 0
    others = set(children(os.getpid()))  # processes that are not ours to stop
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while True:
                for task in missing(names, configs, rows):
                    twins = [row for row in rows if not task.seed and task_of(row)[1:] == task[1:]]
                    if twins:  # the same baseline on the same arrays, for another experiment
                        rows = add(rows, twins[0] | {"config": task.config})
                        save(rows)
                    elif (
                        len(running) < jobs
                        and task not in tried
                        and all(task[1:] != other[1:] for other in running.values())
                    ):
                        tried.add(task)
                        running[pool.submit(measure, task)] = task
                if not running:
                    return failed
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    task = running.pop(future)
                    try:
                        row = future.result()
                    except RuntimeError as error:
                        print(task.config, task.model, task.seed, str(error).strip().splitlines()[-1], flush=True)
                        failed += 1
                        continue
                    rows = add(rows, row)
                    save(rows)
                    print(task.config, task.model, task.seed, row["metric"], row["score"], flush=True)
        except BaseException:  # above all Ctrl-C: stop the running commands, or the pool waits for them
            for child in set(children(os.getpid())) - others:
                os.kill(child, signal.SIGTERM)
            raise


def load(file: Path) -> list[Row]:
    """Return the rows of a table, none if the file does not exist."""
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def replace(file: Path, text: str) -> None:
    """Replace a file if its text changes; a crash leaves the old file whole."""
    if file.is_file() and file.read_text() == text:
        return
    beside = file.with_name(f".{file.name}.new")
    beside.write_text(text)
    beside.replace(file)


def save(rows: list[Row]) -> None:
    """Write the table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace(TABLE, text.getvalue())


def without_old_prints(rows: list[Row], configs: dict[str, dict[str, Any]]) -> list[Row]:
    """Return the rows; remove the fingerprint of runs whose configuration has changed since."""
    prints = {name: experiment_print(config, configs["defaults"]) for name, config in configs.items()}
    changed = [bool(row["seed"]) and row["fingerprint"] != prints[row["config"]] for row in rows]
    return [row | {"fingerprint": ""} if old else row for row, old in zip(rows, changed, strict=True)]


def write_pages(rows: list[Row], configs: dict[str, dict[str, Any]]) -> None:
    """Write the tables of docs/results.md and the README, and the header of each experiment that was measured."""
    rows = without_old_prints(rows, configs)
    replace(PAGE, with_table(PAGE.read_text(), full_table(rows)))
    replace(README, with_table(README.read_text(), readme_table(rows)))
    for name in ordered(rows):
        file = CONFIGS / f"{name}.yaml"
        replace(file, header(file.read_text(), name, rows))


def main() -> None:
    """Run the missing measurements and write the pages."""
    configs = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(CONFIGS.glob("*.yaml"))}
    experiments = [name for name in configs if name != "defaults"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments to measure, all by default")
    parser.add_argument("--pages", action="store_true", help="write the pages from the rows, measure nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time, one a core by default")
    parser.add_argument("--keep", type=Path, help="a folder in which to keep the runs, deleted by default")
    args = parser.parse_args()
    if unknown := set(args.names) - set(experiments):
        parser.error(f"no experiment in configs/: {', '.join(sorted(unknown))}")
    rows = [row for row in load(TABLE) if row["config"] in experiments]
    save(rows)  # drops those whose configuration was deleted
    torch.set_num_threads(1)
    for stop in (signal.SIGINT, signal.SIGTERM):  # shells start background processes with SIGINT ignored
        signal.signal(stop, signal.default_int_handler)
    status = 0
    try:
        if not args.pages:
            with tempfile.TemporaryDirectory() as temporary:
                root = args.keep.resolve() if args.keep else Path(temporary)
                measured = lambda task: measure(task, configs[task.config], root)  # noqa: E731
                status = int(measure_all(args.names or experiments, configs, rows, args.jobs, measured, save) > 0)
    except KeyboardInterrupt:
        status = 130
    if rows := load(TABLE):
        write_pages(rows, configs)
    sys.exit(status)


if __name__ == "__main__":
    main()
