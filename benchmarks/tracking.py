"""Measure the cost of tracking: Weights & Biases' share of an epoch, and the time that it needs to start.

Run as `python benchmarks/tracking.py`. It trains the perceptron of configs/mlp_adam_mnist.yaml with batch size 128 on
55 000 images, with one torch thread, as `leyden fit` does. The rounds alternate. The cost of an epoch is CPU time.
W&B's share is counted where it is spent (its calls, its threads, its own process), because whole epochs differ by more
than that from round to round. Start and end are wall time, each in a fresh process and including the import of wandb;
the CPU seconds are those of both and of wandb's own process. benchmarks/speed.py measures a whole short command.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from leyden import PROJECT
from leyden.cli.cli import CLI
from leyden.data.mnist import MNISTDataModule
from leyden.errors import UserError
from leyden.runs.wandb import RunWandbLogger
from leyden.runs.wandb_start import finish_tracking

ROUNDS = 5
EPOCHS = 7  # per run; the first two are left out, as wandb's process is still starting
SIDES = {
    "disabled": ["--wandb.mode", "disabled"],
    "as shipped, offline": ["--wandb.mode", "offline"],
    "offline, every step logged": ["--wandb.mode", "offline", "--trainer.log_every_n_steps", "1"],
}
START = """
import resource, sys, time
from leyden.runs.wandb import RunWandbLogger, WandbOptions
from leyden.runs.wandb_start import finish_tracking
logger = RunWandbLogger(sys.argv[1], WandbOptions(mode="offline"))
start, used = time.perf_counter(), time.process_time()
logger.start()
started = time.perf_counter()
finish_tracking(0)
end = time.perf_counter()
import wandb
wandb.teardown()  # wait for wandb's own process
children = resource.getrusage(resource.RUSAGE_CHILDREN)
print(started - start, end - started, time.process_time() - used + children.ru_utime + children.ru_stime)
"""


def children_seconds() -> float:
    """Return the CPU time of this process's children, which is wandb's own process, in hundredths of a second."""
    ticks = 0
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime
    return ticks / os.sysconf("SC_CLK_TCK")


class EpochTimes(Callback):
    """Record CPU times at the start of each epoch: of all threads, the main thread, wandb's process, the logging."""

    def __init__(self) -> None:
        self.starts: list[tuple[float, ...]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Record the CPU times."""
        self.starts.append((time.process_time(), time.thread_time(), children_seconds(), logging[0]))


logging = [0.0]  # CPU seconds in the logger's own calls
log_metrics = RunWandbLogger.log_metrics


def timed_log_metrics(self: RunWandbLogger, metrics: Any, step: int | None = None) -> None:
    """Log, and add the time to the sum."""
    start = time.thread_time()
    log_metrics(self, metrics, step)
    logging[0] += time.thread_time() - start


class TimedCLI(CLI):
    """`leyden fit` with a callback that records the times."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return the Trainer with the callback added."""
        trainer = super().instantiate_trainer(**kwargs)
        self.times = EpochTimes()
        trainer.callbacks.append(self.times)  # type: ignore[attr-defined]
        return trainer


def epoch_seconds(words: list[str]) -> tuple[float, float]:
    """Return the CPU seconds of an epoch, and W&B's share: its calls, its threads, its process."""
    config = PROJECT / "configs" / "mlp_adam_mnist.yaml"
    fixed = ["--config", str(config), "--data.batch_size", "128", "--test_after_fit", "false"]
    fixed += ["--trainer.max_epochs", str(EPOCHS), "--trainer.enable_progress_bar", "false"]
    with redirect_stdout(None):
        cli = TimedCLI(["fit", *fixed, *words])
        finish_tracking(0)
    first, *_, last = cli.times.starts[2:]
    process, main, child, calls = ((b - a) / (EPOCHS - 3) for a, b in zip(first, last, strict=True))
    return process + child, calls + process - main + child


torch.set_num_threads(1)
os.chdir(tempfile.mkdtemp())
try:
    data = MNISTDataModule()
    data.setup()
except UserError:
    print("random images, as the real ones are neither in LEYDEN_DATA nor in data/")
    arrays = [(torch.randint(256, (n, 1, 28, 28), dtype=torch.uint8), torch.arange(n) % 10) for n in (60_000, 10_000)]
    MNISTDataModule.load_arrays = lambda self: arrays  # type: ignore[method-assign,assignment,return-value]
    MNISTDataModule.prepare_data = lambda self: None  # type: ignore[method-assign]

RunWandbLogger.log_metrics = timed_log_metrics  # type: ignore[method-assign]
epoch_seconds(SIDES["as shipped, offline"])  # warms up
times: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
for _ in range(ROUNDS):
    for name, words in SIDES.items():
        times[name].append(epoch_seconds(words))
plain = [whole for whole, _ in times["disabled"]]
for name, pairs in times.items():
    whole = statistics.median(pair[0] for pair in pairs)
    shares = [100 * part / whole for whole, part in pairs]
    ratios = [pair[0] / base for pair, base in zip(pairs, plain, strict=True)]
    print(
        f"{name}: {whole:.2f} CPU s an epoch, {statistics.median(shares):.1f} % of it in W&B ({min(shares):.1f} to "
        f"{max(shares):.1f}); over disabled {whole / statistics.median(plain):.3f} ({ROUNDS} rounds from "
        f"{min(ratios):.3f} to {max(ratios):.3f})"
    )

parts: list[tuple[float, ...]] = []
for number in range(ROUNDS):
    Path(str(number)).mkdir()
    command = [sys.executable, "-c", START, str(number)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    parts.append(tuple(map(float, printed[-1].split())))
for name, seconds in zip(("start", "end", "CPU seconds of both"), zip(*parts, strict=True), strict=True):
    print(f"{name} of W&B, offline: {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")
