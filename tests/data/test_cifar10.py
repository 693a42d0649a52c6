"""CIFAR-10 from its official files, in either form."""

import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5

from leyden.data.cifar10 import CIFAR10_MEAN, CIFAR10_STD, CIFAR10DataModule
from leyden.errors import UserError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads go to a port where nobody listens."""
    monkeypatch.setattr(CIFAR10DataModule, "archive_url", "http://127.0.0.1:9/cifar-10-binary.tar.gz")


def make(root: Path | str) -> CIFAR10DataModule:
    return CIFAR10DataModule(root=str(root), val_size=50)


def ready(root: Path | str) -> CIFAR10DataModule:
    dm = make(root)
    dm.setup()
    return dm


def rows(root: Path, name: str) -> np.ndarray:
    return np.fromfile(root / "cifar-10-batches-bin" / name, np.uint8).reshape(-1, 3073)


@pytest.fixture
def python_root(cifar10_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same images as torchvision keeps them, in a data folder of their own."""
    root = tmp_path / "python"
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    checksums = {}
    for binary, name in zip(CIFAR10DataModule.files, CIFAR10DataModule.python_files, strict=True):
        data = rows(cifar10_root, binary)
        (folder / name).write_bytes(pickle.dumps({"data": data[:, 1:], "labels": data[:, 0].tolist()}))
        checksums[name] = calculate_md5(folder / name)
    monkeypatch.setattr(CIFAR10DataModule, "python_files", checksums)
    return root


def test_planes_are_red_green_blue_and_rows_go_down(cifar10_root: Path) -> None:
    dm = ready(cifar10_root)
    row = rows(cifar10_root, "data_batch_2.bin")[7]
    image = dm.train_set.x[60 + 7]
    for channel, y, x in [(0, 0, 0), (0, 0, 5), (1, 3, 0), (2, 31, 31)]:
        assert image[channel, y, x] == row[1 + 1024 * channel + 32 * y + x]
    assert dm.train_set.y[60 + 7] == row[0]


def test_shapes_and_types(cifar10_root: Path) -> None:
    dm = ready(cifar10_root)
    assert (len(dm.train_set), len(dm.val_set), len(dm.test_set)) == (250, 50, 60)
    x, y = next(iter(dm.train_dataloader()))
    assert (x.dtype, y.dtype) == (torch.uint8, torch.int64)
    assert tuple(x.shape[1:]) == dm.input_shape == (3, 32, 32)


def test_both_forms_hold_the_same_arrays(cifar10_root: Path, python_root: Path) -> None:
    binary, python = ready(cifar10_root), ready(python_root)
    for split in ("train_set", "val_set", "test_set"):
        one, other = getattr(binary, split), getattr(python, split)
        assert one.x.equal(other.x)
        assert one.y.equal(other.y)


def test_torchvision_reads_the_same_images(python_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checksums = list(CIFAR10DataModule.python_files.items())
    monkeypatch.setattr(CIFAR10, "train_list", checksums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", checksums[5:])
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    dm, theirs = ready(python_root), CIFAR10(python_root, train=True)
    assert dm.train_set.x.permute(0, 2, 3, 1).numpy().tobytes() == np.ascontiguousarray(theirs.data).tobytes()
    assert dm.train_set.y.tolist() == theirs.targets


def test_the_checksums_of_the_python_form_are_torchvisions() -> None:
    assert [[*item] for item in CIFAR10DataModule.python_files.items()] == CIFAR10.train_list + CIFAR10.test_list


@pytest.mark.parametrize("name", ["data_batch_3.bin", "test_batch.bin"])
@pytest.mark.parametrize("damage", ["byte", "truncated", "missing"])
def test_a_file_that_is_not_the_official_one_is_refused_by_name(cifar10_root: Path, name: str, damage: str) -> None:
    path = cifar10_root / "cifar-10-batches-bin" / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (b"" if damage == "truncated" else bytes([content[-1] ^ 1])))
    with pytest.raises(UserError, match=f"{path} is {'missing' if damage == 'missing' else 'damaged'}"):
        make(cifar10_root).setup()


def test_no_pickle_is_opened_before_its_checksum_holds(python_root: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    path = python_root / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match=f"{path} is damaged .*delete cifar-10-batches-py"):
        make(python_root).setup()
    assert not (tmp_path / "sprung").exists()


def test_of_the_downloaded_archive_only_the_six_files_come_out(
    cifar10_root: Path, tmp_path: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "cifar-10-binary.tar.gz"
    (cifar10_root / "cifar-10-batches-bin" / "intruder").write_text("boo")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar10_root / "cifar-10-batches-bin", "cifar-10-batches-bin")
        tar.add(cifar10_root / "cifar-10-batches-bin" / "intruder", "../outside")
    monkeypatch.setattr(CIFAR10DataModule, "archive_url", serve(tmp_path) + archive.name)
    monkeypatch.setattr(CIFAR10DataModule, "archive_md5", calculate_md5(archive))
    new = tmp_path / "new"
    fetched, original = ready(new), ready(cifar10_root)
    assert fetched.train_set.x.equal(original.train_set.x)
    found = {path.name for path in new.rglob("*") if path.is_file()}
    assert found == {*CIFAR10DataModule.files, "download.lock"}


def test_a_failed_download_does_not_hide_the_python_form(python_root: Path) -> None:
    (python_root / "cifar-10-batches-bin").mkdir()
    assert len(ready(python_root).test_set) == 60


def test_a_stratified_split_of_some_classes_holds_out_as_many_of_each(cifar10_root: Path) -> None:
    dm = CIFAR10DataModule(root=str(cifar10_root), val_size=31, classes=[7, 2, 5], stratify=True)
    dm.setup()
    assert dm.val_set.labels.bincount().tolist() == [11, 10, 10]  # of 30 each
    assert dm.train_set.labels.bincount().tolist() == [19, 20, 20]
    assert not {*dm.train_set.indices.tolist()} & {*dm.val_set.indices.tolist()}


def test_some_classes_alone_are_numbered_anew_in_the_order_given(cifar10_root: Path) -> None:
    everything = ready(cifar10_root)
    dm = CIFAR10DataModule(root=str(cifar10_root), val_size=50, classes=[7, 2, 5])
    assert dm.num_classes == 3
    dm.setup()
    assert (len(dm.train_set), len(dm.val_set), len(dm.test_set)) == (3 * 30 - 50, 50, 3 * 6)
    for new, old in enumerate([7, 2, 5]):
        assert dm.test_set.x[dm.test_set.y == new].equal(everything.test_set.x[everything.test_set.y == old])
    assert CIFAR10DataModule.num_classes == make(cifar10_root).num_classes == 10


@pytest.mark.parametrize("classes", [[], [3, 3], [0, 10], [-1]])
def test_classes_that_do_not_exist_or_come_twice_are_refused(cifar10_root: Path, classes: list[int]) -> None:
    with pytest.raises(UserError, match="classes must be different numbers from 0 to 9"):
        CIFAR10DataModule(root=str(cifar10_root), val_size=50, classes=classes).setup()


@pytest.mark.real_data
def test_the_real_images(real_data: str) -> None:
    dm = CIFAR10DataModule(root=real_data)
    dm.setup()
    assert (len(dm.train_set), len(dm.val_set), len(dm.test_set)) == (45_000, 5_000, 10_000)
    assert dm.train_set.y[:5].tolist() == [6, 9, 9, 4, 1]
    official = (Path(real_data) / "cifar-10-batches-bin" / "batches.meta.txt").read_text().split()
    assert dm.class_names == official
    assert CIFAR10DataModule(classes=[9, 0]).class_names == ["truck", "airplane"]
    assert dm.train_set.y.bincount().tolist() == [5_000] * 10
    assert dm.test_set.y.bincount().tolist() == [1_000] * 10
    for channel in range(3):
        pixels = dm.train_set.x[:, channel].float() / 255
        assert float(pixels.mean(dtype=torch.float64)) == pytest.approx(CIFAR10_MEAN[channel], abs=1e-4)
        assert float(pixels.double().std()) == pytest.approx(CIFAR10_STD[channel], abs=1e-4)
