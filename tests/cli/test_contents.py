"""The lines that describe a dataset."""

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from leyden.cli.contents import MAX_CLASSES, contents
from leyden.data.array_dataset import ArrayDataset
from leyden.data.split_loaders import SplitLoaders


def made(counts: tuple[int, int, int], y: torch.Tensor) -> SplitLoaders:
    data, x = SplitLoaders(), torch.zeros(len(y), 2)
    data.train_set, data.val_set, data.test_set = (
        ArrayDataset(x, y, indices) for indices in torch.arange(len(y)).split(counts)
    )
    return data


def test_of_many_classes_the_first_are_listed_and_the_others_counted() -> None:
    y = torch.arange(120) % 60
    lines = list(contents(made((60, 60, 0), y), [f"class {i}" for i in range(60)]))
    assert lines[0].split() == ["class", "train", "val", "test"]
    assert lines[1].split() == ["class", "0", "1", "1", "0"]
    assert lines[MAX_CLASSES].split()[:2] == ["class", str(MAX_CLASSES - 1)]
    assert lines[MAX_CLASSES + 1].split() == ["...", "and", "10", "more"]
    assert lines[MAX_CLASSES + 2].split() == ["all", "60", "60", "0"]
    assert len({len(line) for line in lines[: MAX_CLASSES + 1]}) == 1


def test_a_class_without_samples_is_listed_and_its_name_stays_in_one_line() -> None:
    lines = list(contents(made((3, 1, 0), torch.tensor([0, 0, 2, 2])), ["a", "b", "new\nline"]))
    assert [line.split() for line in lines[1:5]] == [
        ["a", "2", "0", "0"],
        ["b", "0", "0", "0"],
        ["new\\nline", "1", "1", "0"],
        ["all", "3", "1", "0"],
    ]


def test_an_array_that_splits_share_counts_once() -> None:
    lines = list(contents(made((3, 1, 0), torch.rand(4)), []))
    assert lines[-1] == "size  4 samples of 2 float32: 0.0 MB"
    x = torch.zeros(1000, 1000)
    data = made((3, 1, 0), torch.rand(4))
    data.train_set, data.val_set, data.test_set = (ArrayDataset(x, x[:, 0]) for _ in range(3))
    assert list(contents(data, []))[-1] == "size  3,000 samples of 1000 float32: 4.0 MB"


class Endless(IterableDataset[int]):
    """Has no length."""

    def __iter__(self) -> Iterator[int]:
        yield 1


class Loaders(LightningDataModule):
    """Has loaders of three kinds, one of them missing."""

    def train_dataloader(self) -> DataLoader[int]:
        return DataLoader(Endless())

    def val_dataloader(self) -> list[DataLoader[int]]:
        return [DataLoader(range(7), batch_size=2)]  # type: ignore[arg-type]


def test_of_any_datamodule_the_loaders_are_named_where_they_have_no_length() -> None:
    assert list(contents(Loaders(), [])) == ["train DataLoader of Endless, without a length", "val   list"]
