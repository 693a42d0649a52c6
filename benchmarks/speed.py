"""Compare speed, memory and start-up of leyden with plain baselines, and write docs/benchmarks.md.

Run as `make bench`, or as `python benchmarks/speed.py PART...` to measure some parts and print them only. Every figure
is a ratio of medians, leyden's divided by the baseline's; the two sides are measured alternately. The baselines are in
baselines.py. W&B is off except in one row; benchmarks/tracking.py measures its share of an epoch.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ["WANDB_MODE"] = "disabled"
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from baselines import augmented_transforms, per_sample_loader
from beside import Rivals, fit_beside
from measure import Ratio, children, machine, memory, resident_share, run, seconds, timed

from leyden import PROJECT
from leyden.data.cifar10 import CIFAR10_MEAN, CIFAR10_STD, CIFAR10DataModule
from leyden.data.mnist import MNISTDataModule
from leyden.data.transforms import RandomCrop, RandomHorizontalFlip

os.environ.setdefault("LEYDEN_DATA", str(PROJECT / "data"))  # for the baselines as well
PAGE = PROJECT / "docs" / "benchmarks.md"
ROUNDS = 5
PYTHON = sys.executable
BASELINES = str(PROJECT / "benchmarks" / "baselines.py")
MLP = ["--config", str(PROJECT / "configs" / "mlp_adam_mnist.yaml"), "--data.batch_size", "128"]
CONVNET = ["--config", str(PROJECT / "configs" / "convnet_mnist.yaml")]
RESNET = ["--config", str(PROJECT / "configs" / "resnet_cifar10.yaml")]
STRONG = ["--config", str(PROJECT / "configs" / "strong_mnist.yaml"), "--trainer.max_epochs", "1"]
VECTORS = ["--config", str(PROJECT / "configs" / "mlp_vectors.yaml")]
OVERLAYS = PROJECT / "configs" / "with"


@dataclass
class Row:
    """One line of the table.

    Args:
        what: Our side.
        baseline: The other side.
        ratio: The measurements.
        at_most: What the ratio should not exceed; None where nothing was promised.
        note: What else there is to say.
    """

    what: str
    baseline: str
    ratio: Ratio
    at_most: float | None = None
    note: str = ""

    def __str__(self) -> str:
        low, high = self.ratio.spread
        limit = "" if self.at_most is None else f"{self.at_most:.3g}"
        missed = self.at_most is not None and self.ratio.value > self.at_most
        verdict = "; ".join(text for text in ("missed" * missed, self.note) if text)
        numbers = f"**{self.ratio.value:.3g}** | {low:.3g} to {high:.3g}, {len(self.ratio.ours)} rounds"
        return f"| {self.what} | {self.baseline} | {numbers} | {limit} | {verdict} |"


def alternate(ours: Callable[[], object], theirs: Callable[[], object], rounds: int = ROUNDS) -> Ratio:
    """Time both sides alternately, after a round for warm-up."""
    ours(), theirs()
    ratio = Ratio()
    for _ in range(rounds):
        ratio.add(timed(ours), timed(theirs))
    return ratio


def loaders() -> list[Row]:
    """Compare an epoch of the loader alone with indexing by shuffled indices."""
    rows = []
    for name, dm, augment, limit in (
        ("MNIST", MNISTDataModule(batch_size=128), [], 1.1),
        ("CIFAR-10, crop and flip", CIFAR10DataModule(batch_size=128), [RandomCrop(4), RandomHorizontalFlip()], 1.2),
    ):
        dm.setup()
        x, y = dm.train_set.x[dm.train_set.indices], dm.train_set.labels
        loader = dm.train_dataloader()

        def change(batch: torch.Tensor, augment: list[Any] = augment) -> None:
            for transform in augment:
                batch = transform(batch)

        def ours(loader: Any = loader, change: Any = change) -> None:
            for batch, _ in loader:
                change(batch)

        def bare(x: torch.Tensor = x, y: torch.Tensor = y, change: Any = change) -> None:
            for index in torch.randperm(len(y)).split(128):
                batch, _ = x[index], y[index]
                change(batch)

        def rows_at_once(x: torch.Tensor = x, y: torch.Tensor = y, change: Any = change) -> None:
            for index in torch.randperm(len(y)).split(128):
                batch, _ = x.index_select(0, index), y.index_select(0, index)
                change(batch)

        rows.append(Row(f"loader, {name}", "bare indexing, `x[index]`", alternate(ours, bare), limit))
        rows.append(Row(f"loader, {name}", "`x.index_select(0, index)`", alternate(ours, rows_at_once)))
    return rows


def augmentation() -> list[Row]:
    """Compare crop, flip and normalisation of 10 000 CIFAR-10 images with torchvision's transforms."""
    augment: list[Any] = [RandomCrop(4), RandomHorizontalFlip()]
    dm = CIFAR10DataModule(batch_size=128, val_size=40_000, augment=augment)
    dm.setup()
    loader = dm.train_dataloader()
    pictures = dm.train_set.x[dm.train_set.indices].permute(0, 2, 3, 1).contiguous()
    labels = dm.train_set.labels

    def ours() -> None:
        for x, _ in loader:
            for transform in augment:
                x = transform(x)
            dm.normalize(x)

    rivals = {}
    for name, transform in augmented_transforms(CIFAR10_MEAN, CIFAR10_STD).items():
        for workers in (0, 1, 2):
            rival = per_sample_loader(pictures, labels, 128, transform, num_workers=workers)
            rivals[f"{name}, {workers} workers"] = lambda rival=rival: sum(len(y) for _, y in rival)
    best = min(rivals, key=lambda name: timed(rivals[name]))
    return [Row("augmented CIFAR-10", f"(d) torchvision, at its best: {best}", alternate(ours, rivals[best], 5), 1 / 8)]


def epochs() -> Iterator[Row]:
    """Compare a training epoch of `leyden fit` with the bare loop, Lightning's minimum and the usual module."""
    few = ["--trainer.limit_val_batches", "10"]
    convnet = [*CONVNET, *few]
    for name, arguments, limit in (
        ("MLP, batch 128", MLP, 1.6),
        ("ConvNet, batch 32", convnet, 1.2),
        ("ConvNet, batch 32, with the courses' 2 workers", [*convnet, "--data.num_workers", "2"], None),
        ("ResNet, batch 128, bf16", [*RESNET, *few, "--trainer.limit_train_batches", "8"], 1.05),
    ):
        usual = {"fused": Rivals.bare_fused, "usual": Rivals.usual} if arguments is MLP else {}
        sides = {"bare": Rivals.bare, "off": Rivals.switched_off, "barebones": Rivals.barebones}
        clock, others = fit_beside(arguments, ROUNDS, **sides, **usual)
        for baseline, side, at_most in (
            ("(a) bare loop", "bare", limit),
            ("the same, all switched off", "off", limit and 1.15),
            ("barebones", "barebones", None),
        ):
            yield Row(f"training epoch, {name}", baseline, Ratio(clock.training, others[side]), at_most)
        if usual:
            ratio = Ratio(clock.training, others["fused"])
            yield Row(f"training epoch, {name}", "(a) bare loop with `Adam(fused=True)`", ratio, 1.9)
            ratio = Ratio(clock.whole, others["usual"])
            yield Row(f"epoch with validation, {name}", "(c) usual module", ratio, 1 / 5)


def commands() -> list[Row]:
    """Compare whole commands in fresh processes, without W&B and with W&B offline."""
    whole, offline, peak = Ratio(), Ratio(), Ratio()
    with tempfile.TemporaryDirectory() as folder:
        ours = [PYTHON, "-m", "leyden", "fit", *MLP, "--trainer.max_epochs", "3"]
        ours += ["--trainer.default_root_dir", folder]
        for _ in range(5):
            our_seconds, our_peak, _ = run(ours)
            offline_seconds, _, _ = run(ours, WANDB_MODE="offline")
            their_seconds, _, _ = run([PYTHON, BASELINES, "usual", "3"])
            _, bare_peak, _ = run([PYTHON, BASELINES, "bare", "3"])
            whole.add(our_seconds, their_seconds)
            offline.add(offline_seconds, their_seconds)
            peak.add(our_peak, bare_peak)
    return [
        Row("whole command, 3 epochs of the MLP and the test", "(c) the same", whole, 1 / 2.5),
        Row("that command with W&B offline, as shipped", "(c) the same, without W&B", offline, 1 / 2.5),
        Row("peak memory of the command without W&B", "(a) bare loop", peak, 1.15),
    ]


def accuracy() -> list[Row]:
    """Compare the whole command that reaches 99 % on MNIST's test images with the widely used example."""
    ratio, scores, example_scores = Ratio(), [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(3):
            ours = [PYTHON, "-m", "leyden", "fit", *STRONG, "--seed_everything", str(seed)]
            used, _, output = run([*ours, "--trainer.default_root_dir", folder])
            (score,) = (float(line.split()[2].rstrip(",")) for line in output.splitlines() if line.startswith("test  "))
            example_used, _, output = run([PYTHON, BASELINES, "example", "14", str(seed)])
            ratio.add(used, example_used)
            scores.append(f"{100 * score:.2f}")
            example_scores.append(f"{100 * float(output.split()[-1]):.2f} % in {output.count('test')}")
    note = f"leyden's seeds reached {', '.join(scores)} %, those of the example {', '.join(example_scores)} epochs"
    return [Row("99 % on MNIST, the strong row in one epoch", "(e) the example", ratio, 1 / 5, note)]


def startup() -> list[Row]:
    """Time the commands that need no torch."""
    ratio = Ratio()
    for _ in range(ROUNDS):
        ours, _, _ = run([PYTHON, "-m", "leyden", "--help"])
        theirs, _, _ = run([PYTHON, "-c", "import lightning"])
        ratio.add(ours, theirs)
    _, _, imports = run([PYTHON, "-X", "importtime", "-m", "leyden", "--version"])
    loaded = Ratio([float("torch" in imports.split())], [1.0])
    return [
        Row("`leyden --help`", '`python -c "import lightning"`', ratio, 1.2),
        Row("`leyden --version`: torch imported", "1 would be yes", loaded, 0.0),
    ]


def growth() -> list[Row]:
    """Measure how time grows with samples and classes, and memory with epochs."""
    rows = []
    one = ["--trainer.limit_val_batches", "1"]
    per_sample = {}
    for share, val_size in ((10, 54_500), (50, 32_500), (100, 5_000)):
        clock, _ = fit_beside([*MLP, *one, "--data.val_size", str(val_size)], 5)
        per_sample[share] = [time / (60_000 - val_size) for time in clock.training]
    for share in (10, 50):
        ratio = Ratio(per_sample[100], per_sample[share])
        rows.append(Row("time per sample, MNIST, all samples", f"{share} % of them", ratio, 1.1))
    few = [*VECTORS, *one, "--data.num_samples", "20000", "--data.batch_size", "128", "--data.num_classes"]
    beside = {}
    for classes in (10, 100, 1000):
        clock, others = fit_beside([*few, str(classes)], ROUNDS, bare=Rivals.bare)
        beside[classes] = [ours / bare for ours, bare in zip(clock.training, others["bare"], strict=True)]
    for classes in (100, 1000):
        ratio = Ratio(beside[classes], beside[10])
        rows.append(Row(f"ratio to the bare loop, {classes} classes", "that with 10 classes", ratio, 1.1))

    held: list[float] = []

    def look(_: Rivals) -> float:
        held.append(memory("self", "RssAnon", "VmSwap"))
        return held[-1]

    fit_beside(VECTORS, 50, look=look)
    ratio = Ratio([statistics.median(held[-5:])], [statistics.median(held[5:10])])
    rows.append(Row("memory (without that of files) after 50 epochs", "after 10", ratio, 1.02))
    return rows


def arrays() -> list[Row]:
    """Measure how many copies of MNIST's training images are in memory, by each process's share of their pages."""
    with tempfile.TemporaryDirectory() as folder:
        ranks = ["--config", str(OVERLAYS / "ddp_cpu.yaml"), "--trainer.max_epochs", "1"]
        command = [PYTHON, "-m", "leyden", "fit", *MLP, *ranks, "--trainer.default_root_dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        held = [0.0]
        while process.poll() is None:
            held.append(sum(resident_share(pid, "/mnist-") for pid in (process.pid, *children(process.pid))))
            time.sleep(0.5)
    dm = MNISTDataModule(batch_size=128, num_workers=2)
    dm.setup()
    start = dm.train_set.x.data_ptr() + dm.train_set.x.nbytes // 2  # the middle, as the first page may be apart
    alone = resident_share(os.getpid(), start)
    batches = iter(dm.train_dataloader())
    for _ in range(100):
        next(batches)
    forked = sum(resident_share(pid, start) for pid in (os.getpid(), *children(os.getpid())))
    size = sum(dataset.x.nbytes for dataset in (dm.train_set, dm.test_set)) / 1024
    return [
        Row("MNIST in the memory of 2 ranks of one machine", "its size", Ratio([max(held)], [size]), 1.1),
        Row(
            "MNIST in the memory of a process and its 2 workers", "of the process alone", Ratio([forked], [alone]), 1.1
        ),
    ]


def overlays() -> list[Row]:
    """Compare a training epoch with and without a fused optimizer or an overlay, and measure the cost at the start."""
    rows = []
    few = ["--trainer.limit_val_batches", "1", "--trainer.limit_train_batches"]
    strong = [*STRONG, *few, "10"]
    resnet = [*RESNET, "--trainer.precision", "32-true", *few, "4"]
    pairs = [("MLP, batch 128, with its fused Adam", "`--model.optimizer.fused false`", MLP)]
    pairs[0] += ([*MLP, "--model.optimizer.fused", "false"],)
    for name, arguments, overlay in (
        ("strong row", strong, "channels_last"),
        ("strong row", strong, "bf16"),
        ("strong row", strong, "compile"),
        ("ResNet", resnet, "bf16"),
    ):
        added = [*arguments, "--config", str(OVERLAYS / f"{overlay}.yaml")]
        pairs.append((f"{name}, with `configs/with/{overlay}.yaml`", "without it", added, arguments))
    for name, baseline, ours, theirs in pairs:
        ratio = Ratio()
        later = []
        for _ in range(3):
            whole = []
            for words, times in ((theirs, ratio.theirs), (ours, ratio.ours)):
                with tempfile.TemporaryDirectory() as cache:
                    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # where compiled code is kept between runs
                    start = time.perf_counter()
                    clock, _ = fit_beside(words, 2)
                    whole.append(time.perf_counter() - start - sum(clock.whole))
                times += clock.training
            later.append(whole[1] - whole[0])
        # the longest: compiled once, the process has it
        note = f"at first, {max(max(later), 0):.0f} s to start"
        rows.append(Row(f"training epoch, {name}", baseline, ratio, None, note))
    return rows


PARTS = {
    part.__name__: part
    for part in (loaders, augmentation, epochs, commands, accuracy, startup, growth, arrays, overlays)
}

HEAD = """# Benchmarks

Written by `make bench` ([source](../benchmarks/speed.py)). Each ratio is leyden's median divided by the baseline's:
smaller is better. Next to it are the smallest and the largest ratio of a round. {unit}, one
torch thread. The two sides are measured alternately, epochs in one process and commands in fresh processes; a first
round for warm-up is left out. W&B is off unless the row says otherwise; its share of an epoch is measured by
[benchmarks/tracking.py](../benchmarks/tracking.py).

Leyden's side is `leyden fit`, with its validation, checkpoints and progress bar; they are counted if the row says so.
The MLP is 784-128-10 with fused Adam, `configs/mlp_adam_mnist.yaml` with batch size 128. ConvNet and ResNet are those
of `configs/convnet_mnist.yaml` and `configs/resnet_cifar10.yaml`, the latter with 8 steps an epoch. The baselines are
in [benchmarks/baselines.py](../benchmarks/baselines.py), each as fast as possible:

- (a) the bare loop over normalised tensors in memory: the same network, optimizer, batch size and augmentation; the
  optimizer is fused only if the row says so;
- all switched off: the same module and data in a Trainer without logger, callbacks, progress bar and validation;
- barebones: a module that only returns its loss, `Trainer(barebones=True)`, the tensors of (a);
- (c) the usual module: metric objects called and logged at each step, on torchvision's per-sample data;
- (d) torchvision's v2 transforms, sample by sample, with the number of workers that costs least;
- (e) the widely used MNIST example: two 3x3 convolutions, Adadelta, batch size 64, per-sample data.

Machine: {machine}.{missing}

| what | baseline | ratio | rounds | at most | |
|---|---|---|---|---|---|
"""


def main(names: list[str]) -> None:
    """Measure some parts and print them, or all and write the page."""
    torch.set_num_threads(1)
    lines = []
    for name in names or PARTS:
        start, used = time.perf_counter(), seconds()
        for row in PARTS[name]():
            lines.append(str(row))
            print(row, flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s, of the CPU {seconds() - used:.0f} s", flush=True)
    if not names:
        on_gpu = torch.cuda.is_available()
        unit = "Seconds of the clock, on the GPU" if on_gpu else "CPU seconds, workers' included"
        missing = "" if on_gpu else " No row has been measured on a GPU yet."
        PAGE.write_text(HEAD.format(unit=unit, machine=machine(), missing=missing) + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
