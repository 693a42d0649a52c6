"""Measure what each overlay changes, and write it into the overlay: `python benchmarks/overlays.py [NAME...]`.

`leyden fit --config configs/convnet_digits.yaml` is run with and without the overlay, with three seeds each, one torch
thread and W&B switched off. The line `# Measured: ...` of the overlay then names the mean test score, the number of
epochs and the CPU time as a ratio. What needs a GPU, or has no test score, is left out.
"""

import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from measure import run

from leyden import PROJECT

SEEDS = range(3)
EXPERIMENT = "convnet_digits"
OVERLAYS = PROJECT / "configs" / "with"


class Run(NamedTuple):
    """One run."""

    score: float
    epochs: int
    seconds: float


def measure(overlays: list[Path], seed: int) -> Run:
    """Train with one seed."""
    configs = [PROJECT / "configs" / f"{EXPERIMENT}.yaml", *overlays]
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, "-m", "leyden", "fit", *(f"--config={config}" for config in configs)]
        command += [f"--seed_everything={seed}", f"--trainer.default_root_dir={root}", "--wandb.mode=disabled"]
        seconds, _, text = run(command)
    score = float(re.findall(r"^test  .*?test/acc ([\d.]+)", text, re.MULTILINE)[-1])
    return Run(score, len(re.findall(r"^epoch", text, re.MULTILINE)), seconds)


def result(runs: list[Run], plain: list[Run]) -> str:
    """Return the line of an overlay."""
    score, without = (100 * statistics.mean(run.score for run in some) for some in (runs, plain))
    time = statistics.median(run.seconds for run in runs) / statistics.median(run.seconds for run in plain)
    epochs, all_epochs = (statistics.mean(run.epochs for run in some) for some in (runs, plain))
    shorter = f", after {epochs:.0f} of {all_epochs:.0f} epochs" if epochs < all_epochs else ""
    return (
        f"# Measured: {EXPERIMENT}, {len(runs)} seeds: test/acc {score:.1f} % ({without:.1f} % without)"
        f"{shorter}, CPU time x {time:.2f}\n"
    )


def with_result(text: str, line: str) -> str:
    """Return the text of an overlay with a new line of its result, the last line of its header."""
    lines = [old for old in text.splitlines(keepends=True) if not old.startswith("# Measured: ")]
    end = next(i for i, old in enumerate(lines) if not old.startswith("#"))
    return "".join([*lines[:end], line, *lines[end:]])


def main(names: list[str]) -> None:
    """Measure overlays; all that name a result, if none is given."""
    marked = [file.stem for file in sorted(OVERLAYS.glob("*.yaml")) if "\n# Measured: " in file.read_text()]
    plain = [measure([], seed) for seed in SEEDS]
    for name in names or marked:
        file = OVERLAYS / f"{name}.yaml"
        line = result([measure([file], seed) for seed in SEEDS], plain)
        file.write_text(with_result(file.read_text(), line))
        print(name, line, end="", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
