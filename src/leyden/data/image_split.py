"""Split images by their content, so that copies of an image stay together, and find copies in different splits."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence


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
    classes: defaultdict[int, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (digest, label) in enumerate(zip(digests, labels, strict=True)):
        classes[label][digest].append(index)
    splits = ["train"] * len(digests)
    for groups in classes.values():
        waiting = sorted(groups, key=lambda digest: hashlib.blake2b(f"{seed} {digest}".encode()).digest())
        count = sum(map(len, groups.values()))
        for split, share in shares.items():
            wanted = max(round(share * count), 1 if share > 0 and count > len(shares) else 0)
            while wanted > 0 and len(waiting) > 1:
                indices = groups[waiting.pop()]
                wanted -= len(indices)
                for index in indices:
                    splits[index] = split
    return splits


def copies(digests: Sequence[str]) -> list[list[int]]:
    """Return the images that have the same content as others, one list for each content."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        groups[digest].append(index)
    return [indices for indices in groups.values() if len(indices) > 1]


def copies_across_splits(digests: Sequence[str], splits: Sequence[str]) -> list[list[int]]:
    """Return the images of which a copy is in another split, one list for each content."""
    return [indices for indices in copies(digests) if len({splits[index] for index in indices}) > 1]
