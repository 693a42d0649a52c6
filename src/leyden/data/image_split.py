"""Split images by their content, so that copies of an image stay together, and find copies in different splits."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence


def complete_splits(
    given: Sequence[str | None], digests: Sequence[str], labels: Sequence[int], shares: Mapping[str, float], seed: int
) -> tuple[list[str], list[str]]:
    """Draw the splits that are not given from the training images.

    Args:
        given: The split of each image; None if there are no splits, which makes all of them training images.
        digests: A digest of the content of each image.
        labels: The class of each image.
        shares: {name of the split: its share of the training images} of the splits that there must be.
        seed: Seed of the draw.

    Returns:
        The name of the split for each image, and the names of those that were drawn.
    """
    splits = [split or "train" for split in given]
    train = [i for i, split in enumerate(splits) if split == "train"]
    missing = {split: share for split, share in shares.items() if split not in given} if train else {}
    drawn = draw_splits([digests[i] for i in train], [labels[i] for i in train], missing, seed)
    for i, split in zip(train, drawn, strict=True):
        splits[i] = split
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
    classes: defaultdict[int, list[str]] = defaultdict(list)
    for digest, indices in groups.items():
        classes[min(labels[i] for i in indices)].append(digest)  # a mistake of the labels gives copies other ones
    splits = ["train"] * len(digests)
    for contents in classes.values():
        waiting = sorted(contents, key=lambda digest: hashlib.blake2b(f"{seed} {digest}".encode()).digest())
        count = sum(len(groups[digest]) for digest in contents)
        for split, share in shares.items():
            wanted = max(round(share * count), 1 if share > 0 and count > len(shares) else 0)
            while wanted > 0 and len(waiting) > 1:
                indices = groups[waiting.pop()]
                wanted -= len(indices)
                for index in indices:
                    splits[index] = split
    return splits


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
