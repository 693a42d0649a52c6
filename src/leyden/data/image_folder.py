"""Images of one's own: a folder, in which each class has a folder, or a CSV file with labels."""

import sys
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from leyden.data.array_dataset import ArrayDataset
from leyden.data.cache import cache_key
from leyden.data.image_batches import ImageBatches
from leyden.data.image_cache import ImageCache
from leyden.data.image_checks import check_classes, listed, name_contradictions, refuse_broken, refuse_leaks, tell
from leyden.data.image_constants import Constant, given_constant, measured_constants
from leyden.data.image_dataset import ImageFileDataset
from leyden.data.image_files import ImageReader, Resize, printable
from leyden.data.image_labels import SPLITS, class_folders, read_csv, read_folders, read_rows
from leyden.data.image_split import complete_splits
from leyden.data.image_table import Row
from leyden.data.split_loaders import SplitLoaders
from leyden.errors import UserError


class ImageFolderDataModule(ImageBatches, SplitLoaders):
    """Images of any common format, size and mode, with one label each.

    The folders in `root` are the classes. If there is a folder `train`, the folders `train`, `val` and `test` are the
    splits and the classes are in them. A split that is not there is drawn from the training images, the same share of
    each class; copies of an image stay in one split. After the first run has read all images, later runs start from
    its cache, in the folder of the environment variable LEYDEN_CACHE or the project's `data/cache/`.

    Args:
        root: The folder.
        labels: A CSV file with the columns `file` (relative to `root`), `label` and, optionally, `split` (train, val or
            test), instead of folders for classes and splits.
        image_size: Height and width to which images are brought.
        channels: 3 for RGB, 1 for grey.
        resize: How images of another shape are fitted: `crop` scales the shorter side and cuts the centre out, `pad`
            scales the longer side and adds black, `squash` scales both.
        mean: Mean to subtract from pixels in [0, 1], one number per channel, or one for all; `measure` for that of the
            training split, `imagenet` for that with which torchvision's weights were trained.
        std: Standard deviation to divide by after that: numbers, `measure` or `imagenet`, as for `mean`.
        classes: Names of the classes in the order of the labels 0, 1, ...; None for those found, sorted.
        val_share: Share of the training images to draw for validation, if no split `val` is there.
        test_share: Share of the training images to draw for the test, if no split `test` is there.
        split_seed: Seed of the draw.
        cache: Whether to keep the pixels of all images in the cache. Without, each batch reads its files, which needs
            `num_workers`.
        skip_broken: Whether to leave out images that cannot be read, instead of refusing to start.
        allow_leaks: Whether copies of an image may be in different splits.
        augment: Modules that change training batches (B, C, H, W) of uint8, in this order.
        mix: A module that mixes the images and labels of a training batch; see `leyden.data.mix`.
        kwargs: The options of `leyden.data.split_loaders.SplitLoaders`: `batch_size`, `num_workers`, `sampler`, ...

    Attributes:
        table: What is known of each file, after `setup`.
    """

    def __init__(
        self,
        root: str,
        labels: str | None = None,
        image_size: int = 64,
        channels: Literal[1, 3] = 3,
        resize: Resize = "crop",
        mean: Constant = "measure",
        std: Constant = "measure",
        classes: list[str] | None = None,
        val_share: float = 0.15,
        test_share: float = 0.15,
        split_seed: int = 0,
        cache: bool = True,
        skip_broken: bool = False,
        allow_leaks: bool = False,
        augment: list[nn.Module] | None = None,
        mix: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root = Path(root).expanduser()
        self.labels = None if labels is None else Path(labels).expanduser()
        self.reader = ImageReader(channels, image_size, resize)
        self.input_shape = (channels, image_size, image_size)
        self.shares = {"test": test_share, "val": val_share}
        self.split_seed = split_seed
        self.cache = cache
        self.skip_broken = skip_broken
        self.allow_leaks = allow_leaks
        self.augment = augment or []
        self.mix = mix
        if image_size < 1 or min(self.shares.values()) <= 0 or sum(self.shares.values()) >= 1:
            raise UserError("image_size must be 1 or more, val_share and test_share above 0 and together below 1")
        self.class_names = classes or self._find_classes()
        self.num_classes = len(self.class_names)
        self.measured = [name for name, value in (("mean", mean), ("std", std)) if value == "measure"]
        if mean != "measure":
            self.mean = given_constant("mean", mean, channels)
        if std != "measure":
            self.std = given_constant("std", std, channels)

    def _find_classes(self) -> list[str]:
        if self.labels is None:
            names = {folder.name for folders in class_folders(self.root).values() for folder in folders}
            where, what = self.root, "folder for each class"
        else:
            names = {row["label"] or "" for _, row in read_rows(self.labels)}
            where, what = self.labels, "label for each class"
        if len(names) < 2:
            found = f"one class, {printable(min(names))}" if names else "no class"
            raise UserError(f"{where} has {found}: there must be a {what}, and two or more of them")
        return sorted(names)

    def resolved_options(self) -> dict[str, Any]:
        """Return the options that were found in the data, so that a checkpoint need not find them again."""
        measured = {name: [round(v, 4) for v in getattr(self, name).flatten().tolist()] for name in self.measured}
        return {"classes": self.class_names, **measured}

    def setup(self, stage: str | None = None) -> None:
        """Find and read the images, check and split them, once for all stages.

        Raises:
            UserError: An image is broken, in two splits or of an unknown class, or a class has no training image.
        """
        if hasattr(self, "test_set"):
            return
        images = read_folders(self.root) if self.labels is None else read_csv(self.root, self.labels)
        cache = ImageCache(self.root, self.reader, self.cache)
        self.table = cache.table(images.files)
        rows = self.table.good
        broken = images.broken | {row.name: row.reason for row in self.table.rows if row.reason}
        refuse_broken(self.root, broken, len(self.table.rows) + len(images.broken), self.skip_broken)
        if not rows:
            raise UserError(f"no image in {self.root}")
        labels = self._class_indices([images.labels[row.name][0] for row in rows])
        given, digests = [images.labels[row.name][1] for row in rows], [row.digest for row in rows]
        splits, drawn = complete_splits(given, digests, labels, self.shares, self.split_seed, self.folds, self.fold)
        names = [row.name for row in rows]
        if not self.allow_leaks:
            refuse_leaks(self.root, names, digests, splits)
        if stage in ("fit", None):
            name_contradictions(names, digests, labels)
            check_classes(self.root, self.class_names, labels, splits)
        self._measure([row for row, split in zip(rows, splits, strict=True) if split == "train"])
        self.check_image_options(self.input_shape[0])
        self.fingerprint = cache_key(sorted((row.digest, i, s) for row, i, s in zip(rows, labels, splits, strict=True)))
        pixels = cache.pixels(self.table) if self.cache else None
        y = torch.tensor(labels)
        for split in SPLITS:
            indices = torch.tensor([i for i, name in enumerate(splits) if name == split], dtype=torch.int64)
            files = [rows[i].name for i in indices.tolist()]
            if pixels is None:
                dataset: ArrayDataset = ImageFileDataset(self.root, self.reader, files, y[indices])
            else:
                dataset = ArrayDataset(pixels, y, indices, files)
            setattr(self, f"{split}_set", dataset)
        self._announce(splits, drawn, broken, dict(images.ignored))

    def _class_indices(self, names: list[str]) -> list[int]:
        index = {name: i for i, name in enumerate(self.class_names)}
        if unknown := sorted({*names} - {*index}):
            raise UserError(
                f"{self.root} has images of {listed(unknown)}, but the classes are {listed(self.class_names)}"
            )
        return [index[name] for name in names]

    def _measure(self, rows: list[Row]) -> None:
        """Set the constants that are to be measured, over the training images."""
        if self.measured and not rows:
            raise UserError(f"{self.root} has no training image to measure mean and std from: give both")
        if self.measured:
            constants = measured_constants([row.sums for row in rows], self.reader.image_size**2)
            for name in self.measured:
                setattr(self, name, constants[name])

    def _announce(self, splits: list[str], drawn: list[str], broken: dict[str, str], ignored: dict[str, int]) -> None:
        parts = [f"{splits.count(s):,} {s}{' (drawn)' if s in drawn else ''}" for s in SPLITS]
        line = f"data  {self.root}: {self.num_classes} classes, images: {', '.join(parts)}"
        line += f"; {len(broken):,} broken left out" if broken else ""
        line += f"; other files: {', '.join(f'{n} {printable(s)}' for s, n in ignored.items())}" if ignored else ""
        tell(line, sys.stdout)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run compares."""
        return {"fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare the images with those of the checkpoint.

        Raises:
            UserError: They differ, and the training is to go on.
        """
        if state_dict["fingerprint"] == self.fingerprint or self.trainer is None:
            return
        if self.trainer.state.fn == "fit":
            raise UserError(
                f"the images in {self.root} or their split have changed since the checkpoint: start a new run, from "
                "its weights by --model.init_from"
            )
