"""Refuse images that would stop a run or spoil its scores, and name each of them."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_only

from leyden.data.image_files import printable
from leyden.data.image_labels import SPLITS
from leyden.data.image_split import copies, copies_across_splits
from leyden.errors import UserError


@rank_zero_only
def tell(line: str, file: Any = None) -> None:
    """Print a line, once for all ranks; to stderr unless a file is given."""
    print(line, file=file or sys.stderr, flush=True)


def listed(names: Sequence[str]) -> str:
    """Return names for a message, in one line."""
    return ", ".join(map(printable, names))


def refuse_broken(root: object, broken: Mapping[str, str], count: int, skip: bool) -> None:
    """Name the broken images, and refuse them unless they may be left out.

    Args:
        root: The folder, for the message.
        broken: {name: reason}.
        count: Number of all images.
        skip: Whether they may be left out.

    Raises:
        UserError: There are some, and they may not be left out.
    """
    for name, reason in broken.items():
        tell(f"broken  {printable(name)}: {reason}")
    if broken and not skip:
        raise UserError(
            f"{len(broken):,} of {count:,} images in {root} are broken (the lines above): repair or remove them, or "
            "set --data.skip_broken true"
        )


def refuse_leaks(root: object, names: Sequence[str], digests: Sequence[str], splits: Sequence[str]) -> None:
    """Refuse images of which a copy is in another split, and name them.

    Raises:
        UserError: There are some.
    """
    leaks = copies_across_splits(digests, splits)
    for indices in leaks:
        tell("copies  " + ", ".join(f"{printable(names[i])} ({splits[i]})" for i in indices))
    if leaks:
        raise UserError(
            f"{len(leaks):,} images in {root} have copies in another split (the lines above), so the scores would be "
            "too good: remove the copies, or set --data.allow_leaks true"
        )


def name_contradictions(names: Sequence[str], digests: Sequence[str], labels: Sequence[int]) -> None:
    """Name the images of which a copy has another label."""
    for indices in copies(digests):
        if len({labels[i] for i in indices}) > 1:
            tell(f"labels  {listed([names[i] for i in indices])}: one image with different labels")


def check_classes(root: object, classes: Sequence[str], labels: Sequence[int], splits: Sequence[str]) -> None:
    """Refuse a class without a training image, and name those without one in another split.

    Raises:
        UserError: A class has no training image.
    """
    counts = np.zeros((len(SPLITS), len(classes)), int)
    np.add.at(counts, ([SPLITS.index(split) for split in splits], list(labels)), 1)
    for split, of_split in zip(SPLITS, counts, strict=True):
        missing = listed([classes[i] for i in np.flatnonzero(of_split == 0).tolist()])
        if missing and split == "train":
            raise UserError(f"no training image of {missing} in {root}: add some, or remove the class")
        if missing:
            tell(f"data  no {split} image of {missing}, so nothing is known of it there")
