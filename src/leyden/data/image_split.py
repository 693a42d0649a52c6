"""Split images by their content, so that copies of an image stay together, and find copies in different splits."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from leyden.data.split import check_class_counts
from leyden.errors import UserError


def complete_splits(
    given: Sequence[str | None],
    digests: Sequence[str],
    labels: Sequence[int],
    shares: Mapping[str, float],
    seed: int,
    folds: int | None = None,
    fold: int | None = None,
) -> tuple[list[str], list[str]]:
    """Draw the splits that are not given from the training images.

    With folds, the images that are not in the test split are dealt into parts, of which one is the validation split.
    The test split is the same as without.

    Args:
        given: The split of each image; None if there are no splits, which makes all of them training images.
        digests: A digest of the content of each image.
        labels: The class of each image.
        shares: {name of the split: its share of the training images} of the splits that there must be.
        seed: Seed of the draw.
        folds: Number of folds; None for a single validation split.
        fold: The fold that is the validation split.

    Returns:
        The name of the split for each image, and the names of those that were drawn.

    Raises:
        UserError: There are folds and a validation split, or more folds than contents of a class.
    """
    splits = [split or "train" for split in given]
    train = [i for i, split in enumerate(splits) if split == "train"]
    missing = {split: share for split, share in shares.items() if split not in given} if train else {}
    drawn = draw_splits([digests[i] for i in train], [labels[i] for i in train], missing, seed)
    for i, split in zip(train, drawn, strict=True):
        splits[i] = split
    if folds is not None and train:
        if "val" in given:
            raise UserError("data.folds draws the validation split, and there is one: make its images training images")
        rest = [i for i, split in enumerate(splits) if split != "test"]
        dealt = deal_folds([digests[i] for i in rest], [labels[i] for i in rest], folds, seed)
        for i, number in zip(rest, dealt, strict=True):
            splits[i] = "val" if number == fold else "train"
    return splits, list(missing)


def draw_splits(digests: Sequence[str], labels: Sequence[int], shares: Mapping[str, float], seed: int) -> list[str]:
    """Draw the split of each image: the same share of each class, `train` for the rest.

    The order of the draw is that of a hash of the seed and the content. So neither the name of an image nor the other
    images matter, and a few new images change the split of few others.

    Args:
        digests: A digest of the content of each image; copies of one image have the same.
        labels: The class of each image.
        shares: {name of the split: its share of the images}.
        seed: The seed.

    Returns:
        The name of the split for each image. Of a class with three images or more, each split has one at least.
    """
    groups = by_content(digests)
    splits = ["train"] * len(digests)
    for waiting in _shuffled_classes(groups, labels, seed).values():
        count = sum(len(groups[digest]) for digest in waiting)
        for split, share in shares.items():
            wanted = max(round(share * count), 1 if share > 0 and count > len(shares) else 0)
            while wanted > 0 and len(waiting) > 1:
                indices = groups[waiting.pop()]
                wanted -= len(indices)
                for index in indices:
                    splits[index] = split
    return splits


def deal_folds(digests: Sequence[str], labels: Sequence[int], folds: int, seed: int) -> list[int]:
    """Deal images into folds, the contents of one class after the other; copies of an image stay in one fold.

    Args:
        digests: A digest of the content of each image.
        labels: The class of each image.
        folds: Number of folds.
        seed: Seed of the order in which they are dealt.

    Returns:
        The fold of each image. The numbers of contents of a class in two folds differ by one at most.

    Raises:
        UserError: A class has fewer contents than there are folds.
    """
    groups = by_content(digests)
    classes = _shuffled_classes(groups, labels, seed)
    check_class_counts(folds, {label: len(contents) for label, contents in classes.items()})
    numbers = [0] * len(digests)
    for position, digest in enumerate(digest for label in sorted(classes) for digest in classes[label]):
        for index in groups[digest]:
            numbers[index] = position % folds
    return numbers


def _shuffled_classes(groups: Mapping[str, list[int]], labels: Sequence[int], seed: int) -> dict[int, list[str]]:
    """Return {class: its contents}, in the order of a hash of the seed and the content."""
    classes: defaultdict[int, list[str]] = defaultdict(list)
    for digest in sorted(groups, key=lambda digest: hashlib.blake2b(f"{seed} {digest}".encode()).digest()):
        # a mistake of the labels gives copies other ones
        classes[min(labels[i] for i in groups[digest])].append(digest)
    return classes


def by_content(digests: Sequence[str]) -> dict[str, list[int]]:
    """Return the images of each content."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        groups[digest].append(index)
    return groups


def copies(digests: Sequence[str]) -> list[list[int]]:
    """Return the images that have the same content as others, one list for each content."""
    return [indices for indices in by_content(digests).values() if len(indices) > 1]


def copies_across_splits(digests: Sequence[str], splits: Sequence[str]) -> list[list[int]]:
    """Return the images of which a copy is in another split, one list for each content."""
    return [indices for indices in copies(digests) if len({splits[index] for index in indices}) > 1]
