"""Images are split by their content; copies stay together."""

from collections import Counter

from leyden.data.image_split import complete_splits, copies_across_splits, draw_splits

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
