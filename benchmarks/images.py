"""Compare folders of images with torchvision's ImageFolder and with arrays in memory; write docs/benchmarks_images.md.

Run as `python benchmarks/images.py`. The images are the test images of CIFAR-10, enlarged to 256x256 and saved as JPEG,
2 000 of them for what is measured once an image, and as PNG in their own size, all 10 000, where many are needed.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["WANDB_MODE"] = "disabled"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from lightning.pytorch import Trainer
from measure import Ratio, children, machine, resident_share, run, timed
from PIL import Image
from speed import MLP, OVERLAYS, PYTHON, ROUNDS, Row, alternate
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from leyden import PROJECT
from leyden.data.boxes import RandomErasing, RandomResizedCrop
from leyden.data.cifar10 import CIFAR10DataModule
from leyden.data.color_jitter import ColorJitter
from leyden.data.datamodules import ImageDataModule
from leyden.data.image_folder import ImageFolderDataModule
from leyden.data.mix import CutMix, Mixup
from leyden.data.transforms import RandomAffine, RandomCrop, RandomHorizontalFlip
from leyden.data.trivial_augment import TrivialAugment
from leyden.models.conv_net import ConvNet

PAGE = PROJECT / "docs" / "benchmarks_images.md"
SIZE = 64
OPTIONS = {"mean": 0.5, "std": 0.25, "batch_size": 64}


def write_images(root: Path, count: int, size: int, suffix: str) -> Path:
    """Save test images of CIFAR-10 in a folder for each class."""
    data = CIFAR10DataModule()
    data.setup()
    for i in range(count):
        x, y = data.test_set[i]
        folder = root / data.class_names[int(y)]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(x.permute(1, 2, 0).numpy()).resize((size, size), Image.Resampling.BICUBIC)
        image.save(folder / f"{i}.{suffix}", quality=90)
    return root


def torchvision_loader(root: Path, workers: int) -> DataLoader[Any]:
    """Return torchvision's usual way from a folder to normalised batches."""
    steps = [v2.Resize(SIZE), v2.CenterCrop(SIZE), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, v2.Normalize([0.5] * 3, [0.25] * 3)])
    return DataLoader(ImageFolder(str(root), transform), 64, shuffle=True, num_workers=workers)


def folder_data(root: Path, **kwargs: Any) -> ImageFolderDataModule:
    """Return the DataModule of a folder, ready."""
    data = ImageFolderDataModule(str(root), image_size=SIZE, allow_leaks=True, **OPTIONS, **kwargs)
    data.setup("fit")
    return data


class InMemory(ImageDataModule):
    """The arrays of a file of NumPy, read into memory."""

    input_shape = (3, SIZE, SIZE)
    num_classes = 10

    def __init__(self, path: Path) -> None:
        super().__init__(val_size=1000, **OPTIONS)
        self.path = path

    def load_arrays(self) -> Any:
        """Return the same samples for training and test."""
        with np.load(self.path) as arrays:
            x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
        return (x, y), (x, y)


def read_through(loader: Any, data: Any = None) -> int:
    """Fetch all batches of an epoch, normalised."""
    return sum(len(x if data is None else data.normalize(x)) for x, _ in loader)


def reading(folder: Path) -> list[Row]:
    """Compare reading the images once, and later epochs, with an epoch of torchvision's loader."""
    root = write_images(folder / "jpeg", 2000, 256, "jpg")
    times = {workers: timed(lambda w=workers: read_through(torchvision_loader(root, w))) for workers in (0, 1, 2)}
    workers = min(times, key=lambda w: times[w])
    first, later = Ratio(), Ratio()
    for i in range(ROUNDS):
        os.environ["LEYDEN_CACHE"] = str(folder / f"cache{i}")
        ours = timed(lambda: folder_data(root))
        data = folder_data(root)
        share = len(data.train_set) / 2000
        theirs = timed(lambda: read_through(torchvision_loader(root, workers)))
        first.add(ours, theirs)
        epoch = timed(lambda data=data: [read_through(data.train_dataloader(), data) for _ in range(9)]) / 9
        later.add(epoch / share, theirs)
    speeds = (2000 * ROUNDS / sum(side) for side in (first.ours, first.theirs))
    speed = "{:.0f} images per CPU second, torchvision {:.0f}".format(*speeds)
    baseline = f"an epoch of torchvision's ImageFolder and DataLoader with {workers} workers, its best"
    return [
        Row("reading 2 000 JPEG images of 256x256 into the cache, at 64x64", baseline, first, None, speed),
        Row("epochs 2 to 10 from the cache", baseline, later, 1 / 8),
    ]


def arrays(folder: Path) -> list[Row]:
    """Compare the cache with the same arrays in memory, at the start and in an epoch."""
    os.environ["LEYDEN_CACHE"] = str(folder / "cache")
    root = write_images(folder / "png", 10_000, 32, "png")
    data = folder_data(root)
    path = folder / "arrays.npz"
    np.savez(path, x=data.train_set.x.numpy(), y=data.train_set.y.numpy())
    memory = InMemory(path)
    memory.setup("fit")
    memory.train_set.indices = data.train_set.indices  # as many samples
    epoch = alternate(
        lambda: read_through(data.train_dataloader(), data), lambda: read_through(memory.train_dataloader(), memory)
    )
    start = Ratio()
    for _ in range(ROUNDS):
        ours, _, _ = run([PYTHON, __file__, "folder", str(root)])
        theirs, _, _ = run([PYTHON, __file__, "memory", str(path)])
        start.add(ours, theirs)
    return [
        Row("second start on 10 000 PNG images, up to the first step", "the same arrays in memory", start, 1.1),
        Row("epoch of the loader, from the cache", "the same arrays in memory", epoch, 1.2),
        copies(root),
    ]


def copies(root: Path) -> Row:
    """Measure how many copies of the images two ranks with two workers each hold."""
    with tempfile.TemporaryDirectory() as runs:
        command = [PYTHON, "-m", "leyden", "fit", "--model", "ConvNet", "--data", "ImageFolderDataModule"]
        command += [f"--data.root={root}", f"--data.image_size={SIZE}", "--data.allow_leaks=true"]
        command += ["--data.num_workers=2", "--config", str(OVERLAYS / "ddp_cpu.yaml"), "--trainer.max_epochs=1"]
        command += [f"--trainer.default_root_dir={runs}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        held = [0.0]
        while process.poll() is None:
            ranks = [process.pid, *children(process.pid)]
            everyone = {pid for rank in ranks for pid in (rank, *children(rank))}
            held.append(sum(resident_share(pid, "/pixels-") for pid in everyone))
            time.sleep(0.3)
    assert process.returncode == 0
    size = 10_000 * 3 * SIZE**2 / 1024
    return Row("images in the memory of 2 ranks with 2 workers each", "their size", Ratio([max(held)], [size]), 1.1)


def augmenting(folder: Path) -> list[Row]:
    """Compare each transform of a batch of 128 CIFAR-10 images with torchvision's, image after image."""
    data = CIFAR10DataModule()
    data.setup()
    x, y = data.train_set.__getitems__(list(range(128)))
    normal = data.normalize(x)
    pairs: list[tuple[nn.Module, Any]] = [
        (RandomCrop(4), v2.RandomCrop(32, padding=4)),
        (RandomHorizontalFlip(), v2.RandomHorizontalFlip()),
        (RandomAffine(10, 0.1), v2.RandomAffine(10, (0.1, 0.1), interpolation=v2.InterpolationMode.BILINEAR)),
        (RandomResizedCrop(), v2.RandomResizedCrop(32)),
        (RandomErasing(), v2.RandomErasing()),
        (ColorJitter(0.4, 0.4, 0.4, 0.1), v2.ColorJitter(0.4, 0.4, 0.4, 0.1)),
        (TrivialAugment(), v2.TrivialAugmentWide()),
    ]
    rows = []
    for ours, theirs in pairs:
        ratio = alternate(
            lambda ours=ours: [ours(x) for _ in range(20)],
            lambda theirs=theirs: [torch.stack([theirs(image) for image in x]) for _ in range(20)],
        )
        rows.append(Row(f"{type(ours).__name__}, 128 images of 32x32", "torchvision, image after image", ratio))
    for ours, theirs in ((Mixup(), v2.MixUp(num_classes=10)), (CutMix(), v2.CutMix(num_classes=10))):
        ratio = alternate(
            lambda ours=ours: [ours(normal, y, 10) for _ in range(20)],
            lambda theirs=theirs: [theirs(normal, y) for _ in range(20)],
        )
        rows.append(Row(f"{type(ours).__name__}, 128 images of 32x32", "torchvision, one draw for the batch", ratio))
    return rows


def mnist(folder: Path) -> list[Row]:
    """Compare the start on MNIST with and without its cache."""
    command = [PYTHON, "-m", "leyden", "fit", *MLP, "--trainer.max_steps", "1", "--trainer.limit_val_batches", "1"]
    command += ["--test_after_fit", "false", "--trainer.default_root_dir", str(folder / "runs")]
    ratio = Ratio()
    run(command, LEYDEN_CACHE=str(folder / "mnist"))
    for _ in range(ROUNDS):
        ours, _, _ = run(command, LEYDEN_CACHE=str(folder / "mnist"))
        theirs, _, _ = run(command, LEYDEN_CACHE="/dev/null/none")  # which cannot be written
        ratio.add(ours, theirs)
    saved = sorted(ratio.theirs)[ROUNDS // 2] - sorted(ratio.ours)[ROUNDS // 2]
    return [Row("`leyden fit` on MNIST, up to the first step", "without the cache", ratio, 1, f"{saved:.2f} s less")]


def first_step(side: str, path: str) -> None:
    """Train one step on a folder, or on arrays in memory."""
    data: Any = folder_data(Path(path)) if side == "folder" else InMemory(Path(path))
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    model = ConvNet(input_shape=(3, SIZE, SIZE), num_classes=10)
    Trainer(max_steps=1, limit_val_batches=1, accelerator="cpu", **quiet).fit(model, data)


HEAD = """# Benchmarks of folders of images

Written by `python benchmarks/images.py` ([source](../benchmarks/images.py)). Each ratio is leyden's median of CPU
seconds, workers' included, divided by the baseline's: smaller is better. Next to it are the smallest and the largest
ratio of a round. The images are test images of CIFAR-10. All sides deliver normalised batches of 64 images at 64x64.

Machine: {machine}.

| what | baseline | ratio | rounds | at most | |
|---|---|---|---|---|---|
"""


def main() -> None:
    """Measure all, print the rows and write the page."""
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (reading, arrays, mnist, augmenting):
            for row in part(folder):
                print(row, flush=True)
                rows.append(str(row))
    PAGE.write_text(HEAD.format(machine=machine()) + "\n".join(rows) + "\n")


if __name__ == "__main__":
    if sys.argv[1:]:
        first_step(*sys.argv[1:])
    else:  # the processes that read images import the main module, so that is a short one, as with `leyden`
        code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import images; images.main()"
        sys.exit(subprocess.run([PYTHON, "-c", code], check=False).returncode)
