"""How much the DataLoader costs beside bare indexing into the same arrays, as a ratio of times an epoch.

Run as `python benchmarks/loader.py`. One thread, no workers. The rounds alternate, so that whatever else the
machine does meets all sides alike. Bare indexing is `for idx in torch.randperm(n).split(b): x[idx], y[idx]`,
which copies uint8 pixel by pixel. The dataset copies whole rows by `index_select`, so it can even be ahead; the
same loop with `index_select` is the second baseline, the floor that no loader can go below.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from leyden.data.base import Batch, ImageDataModule
from leyden.data.cifar10 import CIFAR10DataModule
from leyden.data.mnist import MNISTDataModule
from leyden.data.transforms import RandomCrop, RandomHorizontalFlip
from leyden.errors import UserError

BATCH_SIZE = 128
ROUNDS = 9


def random_arrays(dm: ImageDataModule, num_train: int) -> tuple[Batch, Batch]:
    """Noise of the shape and the number of a dataset's images."""
    x = torch.randint(256, (num_train, *dm.input_shape), dtype=torch.uint8)
    y = torch.randint(dm.num_classes, (num_train,))
    return (x, y), (x[:1], y[:1])


def seconds(epoch: Callable[[], None]) -> float:
    """The time that one epoch takes."""
    start = time.perf_counter()
    epoch()
    return time.perf_counter() - start


def compare(name: str, dm: ImageDataModule, num_train: int, augment: list[nn.Module]) -> None:
    """Prints the time of an epoch of the DataLoader over that of bare indexing."""
    try:
        dm.setup()
        source = "real images"
    except UserError:
        arrays = random_arrays(dm, num_train)
        dm.load_arrays = lambda: arrays  # type: ignore[method-assign]
        dm.setup()
        source = "random images, as the real ones are neither in LEYDEN_DATA nor in data/"
    x, y = dm.train_set.x[dm.train_set.indices], dm.train_set.labels  # so that the bare loop indexes once
    loader = dm.train_dataloader()

    def change(batch: Tensor) -> None:
        for transform in augment:
            batch = transform(batch)

    def through_loader() -> None:
        for batch, _ in loader:
            change(batch)

    def bare() -> None:
        for idx in torch.randperm(len(y)).split(BATCH_SIZE):
            batch, _ = x[idx], y[idx]
            change(batch)

    def rows() -> None:
        for idx in torch.randperm(len(y)).split(BATCH_SIZE):
            batch, _ = x.index_select(0, idx), y.index_select(0, idx)
            change(batch)

    sides = (through_loader, bare, rows)
    for epoch in sides:  # all warm up
        epoch()
    times = list(zip(*([seconds(epoch) for epoch in sides] for _ in range(ROUNDS)), strict=True))
    loader_time = statistics.median(times[0])
    print(f"{name}: {len(y)} {source}, batch size {BATCH_SIZE}")
    print(f"  DataLoader {1000 * loader_time:.0f} ms an epoch, {len(y) / loader_time:,.0f} samples/s")
    for baseline, side in (("x[idx]", times[1]), ("x.index_select(0, idx)", times[2])):
        ratios = [a / b for a, b in zip(times[0], side, strict=True)]
        print(
            f"  bare {baseline} {1000 * statistics.median(side):.0f} ms: ratio "
            f"{loader_time / statistics.median(side):.2f} ({ROUNDS} rounds from {min(ratios):.2f} to {max(ratios):.2f})"
        )


torch.set_num_threads(1)
compare("MNIST", MNISTDataModule(batch_size=BATCH_SIZE), 60_000, [])
compare("CIFAR-10", CIFAR10DataModule(batch_size=BATCH_SIZE), 50_000, [])
compare(
    "CIFAR-10, crop and flip on both sides",
    CIFAR10DataModule(batch_size=BATCH_SIZE),
    50_000,
    [RandomCrop(padding=4), RandomHorizontalFlip()],
)
