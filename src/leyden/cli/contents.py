"""What is in a dataset, in lines of text: classes, counts, sizes, copies of images."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.utils.data import DataLoader

from leyden.data.image_files import printable
from leyden.data.image_folder import ImageFolderDataModule
from leyden.data.image_labels import SPLITS
from leyden.data.image_split import copies
from leyden.data.split_loaders import SplitLoaders
from leyden.runs.directory import short_path

MAX_CLASSES = 50  # that are listed
MAX_COPIES = 5


def contents(data: LightningDataModule, names: Sequence[str]) -> Iterator[str]:
    """Describe the data after their `setup`.

    Args:
        data: The data.
        names: Names of the classes; without classes, empty.
    """
    if not isinstance(data, SplitLoaders):
        yield from loader_lines(data)
        return
    yield from count_table(data, names)
    if isinstance(data, ImageFolderDataModule):
        place = f" in {short_path(data.table.pixels)}" if data.cache else ", read from their files for each batch"
        yield size_line(data) + place
        yield from copy_lines(data)
    else:
        yield size_line(data)


def count_table(data: SplitLoaders, names: Sequence[str]) -> Iterator[str]:
    """Yield the number of samples in each split, by class if there are classes."""
    splits = [data.train_set, data.val_set, data.test_set]
    rows = [("all", [len(split) for split in splits])]
    labels = [split.labels.cpu() for split in splits]
    if names and all(y.ndim == 1 and not y.is_floating_point() for y in labels):
        counts = torch.stack([y.bincount(minlength=len(names)) for y in labels], dim=1)  # (classes, splits)
        rows = [*zip(map(printable, names), counts.tolist(), strict=True), *rows]
    width = max(len(name) for name, _ in rows)
    yield f"      {'class' if len(rows) > 1 else '':<{width}}" + "".join(f"{split:>10}" for split in SPLITS)
    for i, (name, numbers) in enumerate(rows):
        if i < MAX_CLASSES or i == len(rows) - 1:
            yield f"      {name:<{width}}" + "".join(f"{number:>10,}" for number in numbers)
        elif i == MAX_CLASSES:
            yield f"      ... and {len(rows) - 1 - MAX_CLASSES:,} more"


def size_line(data: SplitLoaders) -> str:
    """Return the number, the shape and the size of all samples."""
    splits = [data.train_set, data.val_set, data.test_set]
    arrays = {split.x.data_ptr(): split.x for split in splits}.values()  # splits may share one
    dtype = str(splits[0][0][0].dtype).removeprefix("torch.")
    shape = " x ".join(map(str, splits[0][0][0].shape))
    size = sum(x.nbytes for x in arrays) / 1e6
    return f"size  {sum(map(len, splits)):,} samples of {shape} {dtype}" + (f": {size:,.1f} MB" if size else "")


def copy_lines(data: ImageFolderDataModule) -> Iterator[str]:
    """Yield which images are copies of others, by the content of their files."""
    digests = {row.name: row.digest for row in data.table.good}
    files = [(name, split) for split in SPLITS for name in getattr(data, f"{split}_set").files]
    found: defaultdict[str, list[str]] = defaultdict(list)
    for indices in copies([digests[name] for name, _ in files]):
        group = [files[i] for i in indices]
        in_splits = {split for _, split in group}
        key = group[0][1] if len(in_splits) == 1 else "several splits"
        found[key].append(" = ".join(printable(f"{n} ({s})" if len(in_splits) > 1 else n) for n, s in group))
    for key, groups in found.items():
        named = "; ".join(islice(groups, MAX_COPIES)) + ("; ..." if len(groups) > MAX_COPIES else "")
        yield f"copies  of {len(groups):,} image{'s' * (len(groups) > 1)} in {key}: {named}"
    if not found:
        yield "copies  none: no two files have the same content"


def loader_lines(data: LightningDataModule) -> Iterator[str]:
    """Yield what the loaders of any DataModule say about their length."""
    for split in ("train", "val"):  # those of which `fit` runs the setup
        if not is_overridden(f"{split}_dataloader", data):
            continue
        loader = getattr(data, f"{split}_dataloader")()
        line = f"{split:<6}{type(loader).__name__}"
        if isinstance(loader, DataLoader):
            try:
                line = f"{split:<6}{len(loader.dataset):,} samples in {len(loader):,} batches"  # type: ignore[arg-type]
            except TypeError:  # an IterableDataset
                line += f" of {type(loader.dataset).__name__}, without a length"
        yield line
