"""Images are split by their content; copies stay together."""

from collections import Counter

import pytest

from leyden.data.image_split import complete_splits, copies_across_splits, deal_folds, draw_splits
from leyden.errors import UserError

DIGESTS = [f"image {i}" for i in range(1000)]
LABELS = [0] * 700 + [1] * 300
SHARES = {"test": 0.2, "val": 0.1}


def test_each_class_is_split_by_the_shares() -> None:
    splits = draw_splits(DIGESTS, LABELS, SHARES, seed=0)
    for label, size in ((0, 700), (1, 300)):
        counts = Counter(split for split, other in zip(splits, LABELS, strict=True) if other == label)
        assert counts == {"train": size * 7 // 10, "test": size // 5, "val": size // 10}


def test_the_split_depends_on_the_seed_and_the_content_and_not_on_the_order() -> None:
    splits = draw_splits(DIGESTS, LABELS, SHARES, seed=0)
    assert draw_splits(DIGESTS[::-1], LABELS[::-1], SHARES, seed=0) == splits[::-1]
    other = draw_splits(DIGESTS, LABELS, SHARES, seed=1)
    agree = sum(a == b == "test" for a, b in zip(splits, other, strict=True))
    assert 20 < agree < 65  # 200 x 0.2 = 40 by chance


def test_new_images_move_few_of_the_others() -> None:
    before = draw_splits(DIGESTS, [0] * 1000, SHARES, seed=0)
    after = draw_splits([*DIGESTS, *(f"new {i}" for i in range(10))], [0] * 1010, SHARES, seed=0)
    assert sum(a != b for a, b in zip(before, after[:1000], strict=True)) <= 10


def test_copies_are_in_one_split() -> None:
    digests = [f"image {i // 2}" for i in range(200)]
    splits = draw_splits(digests, [0] * 200, SHARES, seed=0)
    assert splits[::2] == splits[1::2]
    assert copies_across_splits(digests, splits) == []


def test_copies_with_different_labels_are_in_one_split() -> None:
    digests = [*DIGESTS[:100], *DIGESTS[:100]]
    splits = draw_splits(digests, [0] * 100 + [1] * 100, SHARES, seed=0)
    assert splits[:100] == splits[100:]


def test_small_classes_have_an_image_in_each_split_if_they_can() -> None:
    for count, expected in ((1, {"train": 1}), (2, {"train": 2}), (3, {"train": 1, "val": 1, "test": 1})):
        splits = draw_splits(DIGESTS[:count], [0] * count, SHARES, seed=0)
        assert Counter(splits) == expected


def test_copies_in_different_splits_are_found() -> None:
    digests = ["a", "b", "a", "c", "c", "b"]
    splits = ["train", "train", "test", "val", "val", "train"]
    assert copies_across_splits(digests, splits) == [[0, 2]]


def test_only_splits_that_are_not_given_are_drawn() -> None:
    given = [*["train"] * 500, *["test"] * 200, *["train"] * 300]
    splits, drawn = complete_splits(given, DIGESTS, LABELS, SHARES, seed=0)
    assert drawn == ["val"]
    assert splits[500:700] == given[500:700]
    assert Counter(splits) == {"train": 720, "test": 200, "val": 80}
    assert complete_splits(["test"] * 3, DIGESTS[:3], LABELS[:3], SHARES, seed=0) == (["test"] * 3, [])


def test_the_folds_partition_what_is_not_in_the_test_split_and_the_test_split_stays() -> None:
    alone, _ = complete_splits([None] * 1000, DIGESTS, LABELS, SHARES, seed=0)
    held = Counter[int]()
    for fold in range(5):
        splits, drawn = complete_splits([None] * 1000, DIGESTS, LABELS, SHARES, 0, folds=5, fold=fold)
        assert [split == "test" for split in splits] == [split == "test" for split in alone]
        assert drawn == ["test", "val"]
        val = [i for i, split in enumerate(splits) if split == "val"]
        assert Counter(LABELS[i] for i in val) == {0: 112, 1: 48}  # a fifth of 560 and of 240
        held.update(val)
    assert held == Counter(i for i, split in enumerate(alone) if split != "test")


def test_copies_are_in_one_fold_and_each_class_is_dealt_evenly() -> None:
    digests = [f"image {i // 2}" for i in range(206)]
    numbers = deal_folds(digests, [0] * 100 + [1] * 106, folds=4, seed=0)
    assert numbers[::2] == numbers[1::2]
    for label in ([0, 100], [100, 206]):
        counts = Counter(numbers[slice(*label)]).values()
        assert max(counts) - min(counts) <= 2  # one content, which is two images
    assert deal_folds(digests[::-1], [1] * 106 + [0] * 100, folds=4, seed=0) == numbers[::-1]


def test_folds_of_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="class 1 has 3 training samples: use fewer folds"):
        deal_folds(DIGESTS[:10], [0] * 7 + [1] * 3, folds=4, seed=0)
    with pytest.raises(UserError, match="there is one: make its images training images"):
        complete_splits(["train", "val", "test"], DIGESTS[:3], [0] * 3, SHARES, 0, folds=2, fold=0)


def test_a_folder_of_test_images_needs_no_folds() -> None:
    assert complete_splits(["test"] * 3, DIGESTS[:3], LABELS[:3], SHARES, 0, folds=2, fold=0) == (["test"] * 3, [])
