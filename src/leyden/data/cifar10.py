"""The CIFAR-10 colour photographs."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from leyden.data.cache import cached_arrays
from leyden.data.datamodules import Batch, ImageDataModule
from leyden.data.download import data_folder, download, read_verified, unpack
from leyden.errors import UserError

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)  # R, G, B over the 50 000 training images, in [0, 1]
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BINARY_FOLDER = "cifar-10-batches-bin"
PYTHON_FOLDER = "cifar-10-batches-py"


class CIFAR10DataModule(ImageDataModule):
    """60 000 photographs in ten classes, 32x32 pixels (Krizhevsky, 2009), in their official split.

    50 000 images are for training and validation, 10 000 for the test. The official binary release is read from
    `cifar-10-batches-bin/` in the data folder or, if that has none of its files, torchvision's copy from
    `cifar-10-batches-py/`. If both are missing, the binary release is downloaded.

    Args:
        root: The data folder, relative to the current one. None for the environment variable LEYDEN_DATA or, if it
            is not set, the project's `data/`.
        val_size: Number of training images to hold out for validation.
        mean: Mean to subtract from pixels in [0, 1], for R, G and B. The default is that of the training images.
        std: Standard deviation to divide by. The default is that of the training images.
        classes: Keep only these of the ten classes, 0 to 9; they become 0, 1, ... in this order. None keeps all.
        kwargs: The options of `ImageDataModule`.
    """

    input_shape = (3, 32, 32)
    num_classes = 10
    archive_url: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    archive_md5: ClassVar[str] = "c32a1d4ab5d03f1284b67883e8d87530"
    files: ClassVar[dict[str, str]] = {  # and their md5; the test images come last
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    }
    python_files: ClassVar[dict[str, str]] = dict(datasets.CIFAR10.train_list + datasets.CIFAR10.test_list)

    def __init__(
        self,
        root: str | None = None,
        val_size: int = 5000,
        mean: float | Sequence[float] = CIFAR10_MEAN,
        std: float | Sequence[float] = CIFAR10_STD,
        classes: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(val_size=val_size, mean=mean, std=std, **kwargs)
        self.root = root
        self.classes = classes
        if classes is not None:
            self.num_classes = len(classes)

    @property
    def class_names(self) -> list[str]:
        """Names of the labels 0, 1, ..."""
        return [CIFAR10_CLASSES[index] for index in self.classes or range(10)]

    def setup(self, stage: str | None = None) -> None:
        """Load, check and split the arrays.

        Raises:
            UserError: The data or an option is wrong.
        """
        classes = self.classes
        if classes is not None and (not classes or len({*classes} & {*range(10)}) < len(classes)):
            raise UserError(f"classes must be different numbers from 0 to 9, but are {classes}")
        super().setup(stage)

    def load_arrays(self) -> tuple[Batch, Batch]:
        """Return images (N, 3, 32, 32) and their labels (N,)."""
        root = data_folder(self.root)
        has_binary = any((root / BINARY_FOLDER / name).exists() for name in self.files)
        use_python = (root / PYTHON_FOLDER).exists() and not has_binary
        folder, files = (PYTHON_FOLDER, self.python_files) if use_python else (BINARY_FOLDER, self.files)
        read = self._read_python if use_python else self._read_binary

        def load() -> tuple[Batch, Batch]:
            *train, test = read(root)
            x, y = (torch.cat(parts) for parts in zip(*train, strict=True))
            return (x, y), test

        train, test = cached_arrays("cifar10", [root / folder / name for name in files], load)
        if self.classes is None:
            return train, test
        return _only(self.classes, *train), _only(self.classes, *test)

    def _read_binary(self, root: Path) -> list[Batch]:
        """Read files of 3 073-byte rows: the label, then the R, the G and the B plane."""
        batches = []
        for name, md5 in self.files.items():
            content = read_verified(root / BINARY_FOLDER / name, md5, self._fetch_binary)
            rows = torch.from_numpy(np.frombuffer(content, np.uint8).reshape(-1, 3073).copy())
            batches.append((rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].long()))
        return batches

    def _read_python(self, root: Path) -> list[Batch]:
        """Read the pickles of torchvision, after verifying their checksums."""
        batches = []
        for name, md5 in self.python_files.items():
            content = read_verified(root / PYTHON_FOLDER / name, md5, self._fetch_nothing)
            batch = pickle.loads(content, encoding="latin1")  # Python 2 wrote it
            x = torch.from_numpy(batch["data"]).reshape(-1, 3, 32, 32)
            batches.append((x, torch.tensor(batch["labels"])))
        return batches

    def _fetch_binary(self, folder: Path) -> list[Path]:
        archive = download([self.archive_url], self.archive_md5, folder)
        return unpack(archive, [f"{BINARY_FOLDER}/{name}" for name in self.files], folder)

    def _fetch_nothing(self, folder: Path) -> list[Path]:
        raise OSError(f"delete {PYTHON_FOLDER} and the binary release will be")


def _only(classes: list[int], x: Tensor, y: Tensor) -> Batch:
    """Keep the images of some classes, which become 0, 1, ... in their order."""
    kept = torch.isin(y, torch.tensor(classes))
    return x[kept], torch.tensor([classes.index(label) for label in y[kept].tolist()])
