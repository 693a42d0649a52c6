"""The validation split: what it depends on, and its classes."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit

from leyden.data.array_dataset import Batch
from leyden.data.synthetic import SyntheticRegressionDataModule
from leyden.errors import UserError

from .arrays import Hundred, numbers, ready


def test_the_splits_are_disjoint_and_cover_the_training_set() -> None:
    dm = ready(Hundred(val_size=30))
    train, val = (set(s.x[s.indices].flatten().tolist()) for s in (dm.train_set, dm.val_set))
    assert (len(train), len(val)) == (70, 30)
    assert train | val == set(range(100))


def test_the_split_depends_on_its_own_seed_alone() -> None:
    torch.manual_seed(1)
    first = ready(Hundred(val_size=30)).val_set.indices
    torch.manual_seed(2)
    again = ready(Hundred(val_size=30, batch_size=3, num_workers=2)).val_set.indices
    other = ready(Hundred(val_size=30, split_seed=1)).val_set.indices
    assert first.equal(again)
    assert not first.equal(other)


def test_the_split_leaves_the_global_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    ready(Hundred(val_size=30))
    assert torch.get_rng_state().equal(before)


class Clusters(Hundred):
    """Training samples of classes whose numbers are given."""

    def __init__(self, counts: list[int], **kwargs: Any) -> None:
        super().__init__(stratify=True, **kwargs)
        self.counts = counts
        self.num_classes = len(counts)

    def load_arrays(self) -> tuple[Batch, Batch]:
        y = torch.arange(len(self.counts)).repeat_interleave(torch.tensor(self.counts))
        y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
        x = torch.arange(len(y)).unsqueeze(1)
        return (x, y), (x[:5], y[:5])


@pytest.mark.parametrize("split_seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("counts", "val_size"),
    [([100] * 10, 200), ([142, 146, 142, 146, 145, 139], 200), ([900, 90, 9, 1], 100), ([5, 7], 11)],
)
def test_a_stratified_split_holds_out_of_each_class_its_share(
    counts: list[int], val_size: int, split_seed: int
) -> None:
    dm = ready(Clusters(counts, val_size=val_size, split_seed=split_seed))
    held = dm.val_set.labels.bincount(minlength=len(counts)).tolist()
    assert sum(held) == val_size
    for count, out_of in zip(held, counts, strict=True):
        assert abs(count - val_size * out_of / sum(counts)) < 1
    train, val = (set(s.indices.tolist()) for s in (dm.train_set, dm.val_set))
    assert len(train) + len(val) == len(train | val) == sum(counts)


def test_a_stratified_split_has_as_many_of_each_class_as_that_of_scikit_learn() -> None:
    counts, val_size = [523, 301, 97, 11, 5], 100  # no two remainders are equal, so there is one answer
    dm = ready(Clusters(counts, val_size=val_size))
    y = dm.train_set.y.numpy()
    ((_, theirs),) = StratifiedShuffleSplit(1, test_size=val_size, random_state=0).split(y, y)
    assert dm.val_set.labels.bincount().tolist() == np.bincount(y[theirs]).tolist()


def test_a_stratified_split_depends_on_its_own_seed_alone_and_is_drawn_at_random() -> None:
    counts = [30, 30, 40]
    torch.manual_seed(1)
    first = ready(Clusters(counts, val_size=20)).val_set.indices
    torch.manual_seed(2)
    again = ready(Clusters(counts, val_size=20, batch_size=3, num_workers=2)).val_set.indices
    assert first.equal(again)
    drawn = torch.cat([ready(Clusters(counts, val_size=20, split_seed=seed)).val_set.indices for seed in range(300)])
    often = drawn.bincount(minlength=100) / 300  # each sample is held out in a fifth of the splits, sd 0.023
    assert often.tolist() == pytest.approx([0.2] * 100, abs=0.1)


def test_a_split_that_is_not_stratified_is_the_plain_permutation() -> None:
    order = torch.randperm(100, generator=torch.Generator().manual_seed(3))
    dm = ready(Hundred(val_size=30, split_seed=3))
    assert dm.val_set.indices.equal(order[:30].sort().values)


def test_a_stratified_split_needs_class_labels() -> None:
    data = SyntheticRegressionDataModule(stratify=True)
    with pytest.raises(UserError, match=r"data\.stratify needs one class label for each sample, which Synthetic"):
        data.setup()


@pytest.mark.parametrize("val_size", [-1, 0, 100, 1000])
def test_a_validation_size_that_leaves_no_sample_is_refused(val_size: int) -> None:
    with pytest.raises(UserError, match=f"val_size must be 1 to 99 of the 100 training samples, but is {val_size}"):
        Hundred(val_size=val_size).setup()


@pytest.mark.parametrize("folds", [2, 3, 7, 10])
def test_the_validation_splits_of_the_folds_partition_the_samples_and_the_test_set_is_the_official_one(
    folds: int,
) -> None:
    made = [ready(Hundred(val_size=30, folds=folds, fold=fold)) for fold in range(folds)]
    assert torch.cat([dm.val_set.indices for dm in made]).sort().values.tolist() == list(range(100))
    for dm in made:
        assert torch.cat([dm.train_set.indices, dm.val_set.indices]).sort().values.tolist() == list(range(100))
        assert numbers(dm.test_dataloader()) == list(range(100, 120))
    assert {len(dm.val_set) for dm in made} <= {100 // folds, -(-100 // folds)}


@pytest.mark.parametrize("counts", [[100] * 10, [142, 146, 142, 146, 145, 139], [523, 301, 97, 11, 5]])
def test_each_fold_has_as_many_samples_of_each_class_as_that_of_scikit_learn(counts: list[int]) -> None:
    made = [ready(Clusters(counts, val_size=1, folds=5, fold=fold)) for fold in range(5)]
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).numpy()  # it numbers them as they appear
    theirs = [np.bincount(y[val]).tolist() for _, val in StratifiedKFold(5).split(y, y)]
    assert [dm.val_set.labels.bincount(minlength=len(counts)).tolist() for dm in made] == theirs


def test_folds_depend_on_the_seed_of_the_split_alone() -> None:
    def fold(**kwargs: Any) -> torch.Tensor:
        dm = ready(Clusters([30, 30, 40], **{"val_size": 20, "folds": 5, "fold": 2, **kwargs}))
        indices: torch.Tensor = dm.val_set.indices
        return indices

    torch.manual_seed(1)
    first = fold()
    torch.manual_seed(2)
    for change in ({"num_workers": 1}, {"num_workers": 2, "batch_size": 3}, {"val_size": 7}):
        assert first.equal(fold(**change))
    assert not first.equal(fold(split_seed=1))


def test_each_sample_is_as_often_in_each_fold() -> None:
    drawn = [ready(Clusters([33, 67], val_size=20, folds=5, fold=1, split_seed=seed)).val_set for seed in range(300)]
    often = torch.cat([split.indices for split in drawn]).bincount(minlength=100) / 300  # 0.2 each, sd 0.023
    assert often.tolist() == pytest.approx([0.2] * 100, abs=0.1)


def test_samples_without_class_labels_are_dealt_at_random() -> None:
    made = [ready(SyntheticRegressionDataModule(num_samples=50, folds=4, fold=fold)) for fold in range(4)]
    assert torch.cat([dm.val_set.indices for dm in made]).sort().values.tolist() == list(range(50))
    assert [len(dm.val_set) for dm in made] == [13, 13, 12, 12]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 1}, r"give data\.folds too"),
        ({"folds": 5}, r"data\.fold must be 0 to 4, one of the 5 data\.folds, but is None"),
        ({"folds": 5, "fold": 5}, "must be 0 to 4, one of the 5 data.folds, but is 5"),
        ({"folds": 5, "fold": -1}, "but is -1"),
        ({"folds": 1, "fold": 0}, r"data\.folds must be 2 or more, but is 1"),
        ({"folds": 11, "fold": 0}, "data.folds is 11, but class 0 has 10 training samples: use fewer folds"),
    ],
)
def test_folds_that_do_not_fit_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Hundred(val_size=30, **options).setup()


def test_more_folds_than_samples_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.folds is 9, but there are 8 training samples: use fewer folds"):
        SyntheticRegressionDataModule(num_samples=8, folds=9, fold=0).setup()
