"""The MNIST handwritten digits."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from leyden.data.cache import cached_arrays
from leyden.data.datamodules import Batch, ImageDataModule
from leyden.data.download import data_folder, download, read_verified

MNIST_MEAN = 0.1307  # over the 60 000 training images, in [0, 1]
MNIST_STD = 0.3081


class MNISTDataModule(ImageDataModule):
    """70 000 handwritten digits, 28x28 grey pixels (LeCun et al., 1998), in their official split.

    60 000 images are for training and validation, 10 000 for the test. The official files are read from `MNIST/raw/` in
    the data folder, and downloaded if they are missing.

    Args:
        root: The data folder, relative to the current one. None for the environment variable LEYDEN_DATA or, if it
            is not set, the project's `data/`.
        val_size: Number of training images to hold out for validation.
        mean: Mean to subtract from pixels in [0, 1]. The default is that of the training images.
        std: Standard deviation to divide by. The default is that of the training images.
        kwargs: The options of `ImageDataModule`.
    """

    input_shape = (1, 28, 28)
    num_classes = 10
    mirrors: ClassVar[list[str]] = datasets.MNIST.mirrors
    files: ClassVar[dict[str, str]] = {  # and their md5
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }

    def __init__(
        self,
        root: str | None = None,
        val_size: int = 5000,
        mean: float | Sequence[float] = MNIST_MEAN,
        std: float | Sequence[float] = MNIST_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(val_size=val_size, mean=mean, std=std, **kwargs)
        self.root = root

    def load_arrays(self) -> tuple[Batch, Batch]:
        """Return images (N, 1, 28, 28) and their digits (N,)."""
        raw = data_folder(self.root) / "MNIST" / "raw"
        return cached_arrays("mnist", [raw / name for name in self.files], self._read_files)

    def _read_files(self) -> tuple[Batch, Batch]:
        x, y, x_test, y_test = (self._read(name) for name in self.files)
        return (x.unsqueeze(1), y.long()), (x_test.unsqueeze(1), y_test.long())

    def _read(self, name: str) -> Tensor:
        md5 = self.files[name]
        urls = [mirror + name for mirror in self.mirrors]

        def fetch(folder: Path) -> list[Path]:
            return [download(urls, md5, folder)]

        path = data_folder(self.root) / "MNIST" / "raw" / name
        return parse_idx(gzip.decompress(read_verified(path, md5, fetch)))


def parse_idx(content: bytes) -> Tensor:
    """Return the array in the content of an IDX file, the format of MNIST, of unsigned bytes.

    The fourth byte is the number of dimensions; their sizes follow as big-endian 32-bit integers, then the data.
    """
    ndim = content[3]
    shape = np.frombuffer(content, ">i4", count=ndim, offset=4).tolist()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * ndim)
    return torch.from_numpy(values.reshape(shape).copy())
