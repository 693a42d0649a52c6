"""MNIST from its official files."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from leyden.data.mnist import MNIST_MEAN, MNIST_STD, MNISTDataModule
from leyden.errors import UserError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads go to a port where nobody listens."""
    monkeypatch.setattr(MNISTDataModule, "mirrors", ["http://127.0.0.1:9/"])


def make(root: Path | str) -> MNISTDataModule:
    return MNISTDataModule(root=str(root), val_size=50)


def ready(root: Path | str) -> MNISTDataModule:
    dm = make(root)
    dm.setup()
    return dm


def test_the_checksums_are_those_that_torchvision_knows() -> None:
    assert list(MNISTDataModule.files.items()) == MNIST.resources


def test_what_is_read_is_what_torchvision_reads(mnist_root: Path) -> None:
    dm = ready(mnist_root)
    for dataset, split in [(dm.train_set, "train"), (dm.test_set, "t10k")]:
        for name in ("images-idx3", "labels-idx1"):
            file = mnist_root / "MNIST" / "raw" / f"{split}-{name}-ubyte"
            file.write_bytes(gzip.decompress(file.with_name(f"{file.name}.gz").read_bytes()))
        assert dataset.x.squeeze(1).equal(read_image_file(str(mnist_root / f"MNIST/raw/{split}-images-idx3-ubyte")))
        assert dataset.y.equal(read_label_file(str(mnist_root / f"MNIST/raw/{split}-labels-idx1-ubyte")))


def test_shapes_and_types(mnist_root: Path) -> None:
    dm = ready(mnist_root)
    assert (len(dm.train_set), len(dm.val_set), len(dm.test_set)) == (250, 50, 100)
    x, y = next(iter(dm.train_dataloader()))
    assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
    assert tuple(x.shape[1:]) == dm.input_shape == (1, 28, 28)


@pytest.mark.parametrize("name", list(MNISTDataModule.files))
@pytest.mark.parametrize("damage", ["byte", "truncated", "missing"])
def test_a_file_that_is_not_the_official_one_is_refused_by_name(mnist_root: Path, name: str, damage: str) -> None:
    path = mnist_root / "MNIST" / "raw" / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (b"" if damage == "truncated" else bytes([content[-1] ^ 1])))
    with pytest.raises(UserError, match=f"{path} is {'missing' if damage == 'missing' else 'damaged'}"):
        make(mnist_root).setup()


def test_files_are_fetched_from_the_mirrors(
    mnist_root: Path, tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNISTDataModule, "mirrors", [serve(mnist_root / "MNIST" / "raw")])
    fetched, original = ready(tmp_path / "elsewhere"), ready(mnist_root)
    assert fetched.train_set.x.equal(original.train_set.x)
    assert fetched.test_set.y.equal(original.test_set.y)


def test_without_a_root_the_environment_says_where(mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEYDEN_DATA", str(mnist_root))
    dm = MNISTDataModule(val_size=50)
    dm.setup()
    assert len(dm.test_set) == 100


def test_a_root_is_relative_to_the_current_folder(mnist_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.move(mnist_root / "MNIST", mnist_root / "inner" / "MNIST")
    monkeypatch.chdir(mnist_root)
    assert len(ready("inner").test_set) == 100


@pytest.mark.real_data
def test_the_real_images(real_data: str) -> None:
    dm = MNISTDataModule(root=real_data)
    dm.setup()
    assert (len(dm.train_set), len(dm.val_set), len(dm.test_set)) == (55_000, 5_000, 10_000)
    assert tuple(dm.train_set.x.shape) == (60_000, 1, 28, 28)
    assert dm.train_set.y[:5].tolist() == [5, 0, 4, 1, 9]
    assert dm.test_set.y[:5].tolist() == [7, 2, 1, 0, 4]
    pixels = dm.train_set.x.double() / 255
    assert float(pixels.mean()) == pytest.approx(MNIST_MEAN, abs=5e-5)
    assert float(pixels.std()) == pytest.approx(MNIST_STD, abs=5e-5)
