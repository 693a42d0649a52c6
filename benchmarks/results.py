"""Train experiments as their configurations say, and write what came of it to docs/results.csv and docs/results.md.

Run as `make results` for all of them, or `python benchmarks/results.py NAME...` for some; the others' rows stay. An
experiment is trained with seed 0, and with seeds 1 and 2 as well where it took less than two minutes. Each run is the
command `leyden fit --config configs/NAME.yaml` in a process of its own with one torch thread, as many at a time as
there are cores; CPU time and memory are those of that process.
"""

import csv
import datetime
import importlib
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import yaml
from measure import machine
from measure import run as run_alone  # `run` is a directory below

from leyden import PROJECT

TABLE = PROJECT / "docs" / "results.csv"
PAGE = PROJECT / "docs" / "results.md"
SHORT = 120.0  # CPU seconds
SCORES = ("test/acc", "test/acc_mirror", "test/bpd", "test/loss")
HEAD = """# Results

Written by `make results` ([how](../benchmarks/results.py)); each run is a row of [results.csv](results.csv). The score
is that of the checkpoint with the lowest validation loss, on the official test split where the data have one; the
validation samples are never trained on. CPU time and peak memory are those of the whole command with one torch thread,
start-up, validation and test included. Where there are several seeds, all numbers are means, and the score comes
with its standard deviation.

Machine: {machine}.

| configuration | parameters | epochs | score | seeds | CPU time | peak memory |
|---|---|---|---|---|---|---|
"""


def measure(name: str, seed: int) -> dict[str, str]:
    """Train one experiment with one seed.

    Returns:
        Its row of the table. Where the command failed, `score` is its last line and the rest is empty.
    """
    command = [sys.executable, "-m", "leyden", "fit", "--config", str(PROJECT / "configs" / f"{name}.yaml")]
    command += ["--seed_everything", str(seed), "--trainer.enable_progress_bar", "false"]
    row = {"config": name, "seed": str(seed), "machine": machine(), "date": datetime.date.today().isoformat()}
    try:
        seconds, peak, output = run_alone(command)
    except RuntimeError as error:
        return row | {"metric": "failed", "score": str(error).strip().splitlines()[-1]}

    (line,) = [line for line in output.splitlines() if line.startswith("run ")]
    run = Path(line.split()[1])
    with (run / "metrics.csv").open(newline="") as lines:
        scores = {name: row[name] for row in csv.DictReader(lines) for name in SCORES if row.get(name)}
    config = yaml.safe_load((run / "config.yaml").read_text())
    module, _, class_name = config["model"]["class_path"].rpartition(".")
    model = getattr(importlib.import_module(module), class_name).load_from_checkpoint(
        run / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True
    )
    metric = next(iter(scores))
    return row | {
        "parameters": str(sum(parameter.numel() for parameter in model.parameters())),
        "epochs": str(config["trainer"]["max_epochs"]),
        "metric": metric,
        "score": scores[metric],
        "mirror": scores.get("test/acc_mirror", ""),
        "cpu_seconds": f"{seconds:.1f}",
        "peak_mib": f"{peak:.0f}",
    }


def readable(runs: list[dict[str, str]]) -> str:
    """Return the row of the page for the runs of one configuration."""
    first = runs[0]
    link = f"[{first['config']}](../configs/{first['config']}.yaml)"
    if first["metric"] == "failed":
        return f"| {link} | | | not measured: {first['score']} | | | |\n"
    scale, digits, unit = (100, 2, " %") if "acc" in first["metric"] else (1, 4, "")
    values = [scale * float(run["score"]) for run in runs]
    score = f"{first['metric']} {statistics.mean(values):.{digits}f}"
    score += f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    score += unit
    if first["mirror"]:
        score += f"; with the mirror image {100 * statistics.mean(float(run['mirror']) for run in runs):.2f} %"
    seeds = ", ".join(run["seed"] for run in runs)
    seconds = statistics.mean(float(run["cpu_seconds"]) for run in runs)
    memory = statistics.mean(float(run["peak_mib"]) for run in runs)
    return (
        f"| {link} | {int(first['parameters']):,} | {first['epochs']} | {score} | {seeds} | {seconds:.0f} s "
        f"| {memory:,.0f} MiB |\n"
    )


def write(rows: list[dict[str, str]]) -> None:
    """Write the table and the page."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    machines = " and ".join(sorted({row["machine"] for row in rows}))
    names = sorted({row["config"] for row in rows})
    lines = [readable([row for row in rows if row["config"] == name]) for name in names]
    PAGE.write_text(HEAD.format(machine=machines) + "".join(lines))


def experiment(name: str) -> list[dict[str, str]]:
    """Train one experiment with as many seeds as there is time for."""
    rows = [measure(name, 0)]
    if rows[0]["metric"] != "failed" and float(rows[0]["cpu_seconds"]) < SHORT:
        rows += [measure(name, seed) for seed in (1, 2)]
    return rows


if __name__ == "__main__":
    experiments = sorted(file.stem for file in (PROJECT / "configs").glob("*.yaml") if file.stem != "defaults")
    wanted = sys.argv[1:] or experiments
    rows: list[dict[str, str]] = []
    if TABLE.is_file():
        with TABLE.open(newline="") as lines:
            rows = [row for row in csv.DictReader(lines) if row["config"] not in wanted]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done in as_completed([pool.submit(experiment, name) for name in wanted]):
            rows += done.result()
            write(rows)
            for row in done.result():
                print(row["config"], "seed", row["seed"], row["metric"], row["score"], flush=True)
