"""The validation split: what it depends on, and its classes."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedShuffleSplit

from leyden.data.array_dataset import Batch
from leyden.data.synthetic import SyntheticRegressionDataModule
from leyden.errors import UserError

from .arrays import Hundred, ready


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
