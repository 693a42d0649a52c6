"""Train experiments as their configurations say, and write what came of it: `make results`.

Each run is a row of docs/results.csv, which is written after each; docs/results.md, the table in the README and the
third line of each configuration come from these rows. A run is repeated only when its configuration or
configs/defaults.yaml says something else than it did (comments do not count), so a measurement that was stopped goes on
where it was. To repeat a run for another reason, delete its row.

    python benchmarks/results.py                   # all experiments that lack a run, the shortest first
    python benchmarks/results.py NAME...           # only these
    python benchmarks/results.py --pages           # write the pages from the rows, measure nothing
    python benchmarks/results.py --keep DIRECTORY  # keep the runs, with their checkpoints

Each run is the command `leyden fit --config configs/NAME.yaml --seed_everything SEED` in a process of its own with one
torch thread; CPU time and memory are those of that process. How many seeds: `seeds`. A run that fails is no row, and is
tried again next time. Each experiment is then compared with its classical baselines (benchmarks/classical.py), which
are repeated when scikit-learn has another version.
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
from results_pages import Row, header, page, readme

from leyden import PROJECT

CONFIGS = PROJECT / "configs"
TABLE = PROJECT / "docs" / "results.csv"
PAGE = PROJECT / "docs" / "results.md"
README = PROJECT / "README.md"
COLUMNS = ["config", "model", "data", "seed", "fingerprint", "metric", "score", "mirror", "test_error", "parameters"]
COLUMNS += ["epochs", "cpu_seconds", "peak_mib", "machine", "date"]
SCORES = ("test/acc", "test/acc_mirror", "test/bpd", "test/loss")


class Task(NamedTuple):
    """What to measure: an experiment with a seed, or a baseline of it, whose seed is empty."""

    config: str
    model: str
    seed: str
    fingerprint: str


def seeds(cpu_seconds: float) -> range:
    """Return the seeds to train an experiment with, by the CPU seconds of its first run."""
    return range(5 if cpu_seconds < 120 else 3 if cpu_seconds < 600 else 1)


def experiment_print(experiment: dict[str, Any], defaults: dict[str, Any]) -> str:
    """Return what changes when an experiment's configuration says something else."""
    return shortened([experiment, defaults])


def tasks_of(name: str, config: dict[str, Any], defaults: dict[str, Any], rows: list[Row]) -> list[Task]:
    """Return all that there is to measure of an experiment, as far as it is known: after its first run, the rest."""
    model, print_ = class_and_args(config["model"])[0], experiment_print(config, defaults)
    first = Task(name, model, "0", print_)
    for row in rows:
        if task_of(row) == first:
            more = [first._replace(seed=str(seed)) for seed in seeds(float(row["cpu_seconds"]))]
            return more + [Task(name, baseline, "", fingerprint(config, baseline)) for baseline in baselines_of(config)]
    return [first]


def task_of(row: Row) -> Task:
    """Return what a row has measured."""
    return Task(*(row[name] for name in Task._fields))


def missing(names: Iterable[str], configs: dict[str, dict[str, Any]], rows: list[Row]) -> list[Task]:
    """Return what is to measure and not in the rows, those first that took the least time, or were never measured."""
    done = {task_of(row) for row in rows}
    tasks = [task for name in names for task in tasks_of(name, configs[name], configs["defaults"], rows)]
    times: dict[str, list[float]] = {name: [0.0] for name in names}
    for row in rows:
        if row["config"] in times and row["seed"]:
            times[row["config"]].append(float(row["cpu_seconds"]))
    expected = {name: max(found) for name, found in times.items()}
    return sorted((task for task in tasks if task not in done), key=lambda task: (expected[task.config], task.config))


def add(rows: list[Row], new: Row) -> list[Row]:
    """Return the rows with a new one, which replaces those of the same experiment that it makes stale."""
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
        task: Which.
        config: Its experiment, parsed.
        root: A folder for the directory of a run.

    Returns:
        Its row of the table.

    Raises:
        RuntimeError: The command failed.
    """
    row = dict.fromkeys(COLUMNS, "") | task._asdict()
    row["data"] = class_and_args(config["data"])[0].removesuffix("DataModule")
    row |= {"machine": machine(), "date": datetime.date.today().isoformat()}
    return row | (measure_run(task, root) if task.seed else measure_baseline(task))


def measure_baseline(task: Task) -> Row:
    """Return what a baseline's row has to say."""
    command = [sys.executable, str(Path(__file__).with_name("classical.py")), task.config, task.model]
    seconds, peak, output = run_alone(command)
    metric, score = output.split()[-2:]
    return {"metric": metric, "score": score, "cpu_seconds": f"{seconds:.1f}", "peak_mib": f"{peak:.0f}"}


def measure_run(task: Task, root: Path) -> Row:
    """Return what a run's row has to say."""
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
    """Return half the width of the 95 % interval that the finite test set leaves to a score, one sample at least."""
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
    """Measure what is missing, some at a time, and save the rows after each.

    Args:
        names: The experiments.
        configs: All of them by name, parsed, and the defaults.
        rows: What has been measured before.
        jobs: How many runs at a time.
        measure: Returns the row of a task.
        save: Called with all rows after each new one.

    Returns:
        How many runs failed, each with a line that says why. They are tried again next time.
    """
    tried: set[Task] = set()
    running: dict[Future[Row], Task] = {}
    failed = 0
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
        except BaseException:  # above all Ctrl-C: stop what runs, or the pool waits for it
            for child in children(os.getpid()):
                os.kill(child, signal.SIGTERM)
            raise


def load(file: Path) -> list[Row]:
    """Return the rows of a table, none where there is no file."""
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def replace(file: Path, text: str) -> None:
    """Write a file, or leave it as it was."""
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
    """Return the rows, without the fingerprint where a run's configuration has changed since."""
    prints = {name: experiment_print(config, configs["defaults"]) for name, config in configs.items()}
    changed = [bool(row["seed"]) and row["fingerprint"] != prints[row["config"]] for row in rows]
    return [row | {"fingerprint": ""} if old else row for row, old in zip(rows, changed, strict=True)]


def write_pages(rows: list[Row], configs: dict[str, dict[str, Any]]) -> None:
    """Write docs/results.md, the README's table and the headers of what was measured as it is configured now."""
    rows = without_old_prints(rows, configs)
    replace(PAGE, page(rows))
    replace(README, readme(README.read_text(), rows))
    for name in {row["config"] for row in rows} - {row["config"] for row in rows if not row["fingerprint"]}:
        file = CONFIGS / f"{name}.yaml"
        replace(file, header(file.read_text(), name, rows))


def main() -> None:
    """Measure, and write the pages."""
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
    save(rows)  # without those whose configuration is gone
    torch.set_num_threads(1)
    for stop in (signal.SIGINT, signal.SIGTERM):  # a shell's background processes ignore the first
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
