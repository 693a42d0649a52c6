"""The options of the loaders against torch's."""

import os
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from leyden.data.array_dataset import ArrayDataset, Batch
from leyden.data.samplers import ClassBalancedSampler
from leyden.errors import UserError

from .arrays import Hundred, Images, Recorder, make_trainer, numbers, ready


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 32, 70])
def test_batch_size_and_drop_last_mean_what_torch_says(batch_size: int, drop_last: bool) -> None:
    dm = ready(Hundred(val_size=30, batch_size=batch_size, drop_last=drop_last))
    train, y = dm.train_set.x[dm.train_set.indices], dm.train_set.labels
    plain = DataLoader(TensorDataset(train, y), batch_size=batch_size, shuffle=True, drop_last=drop_last)
    loader = dm.train_dataloader()
    assert len(loader) == len(plain)
    assert [len(x) for x, _ in loader] == [len(x) for x, _ in plain]
    if not drop_last:
        assert sorted(numbers(loader)) == sorted(train.flatten().tolist())


def test_drop_last_leaves_evaluation_whole() -> None:
    dm = ready(Hundred(val_size=30, batch_size=16, drop_last=True))
    assert len(numbers(dm.val_dataloader())) == 30
    assert len(numbers(dm.test_dataloader())) == 20


def test_each_input_keeps_its_label() -> None:
    dm = ready(Hundred(val_size=30))
    for loader in (dm.train_dataloader(), dm.val_dataloader(), dm.test_dataloader()):
        assert all((x.flatten() % 10).equal(y) for x, y in loader)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_bring_the_same_batches_as_none(persistent: bool) -> None:
    alone = ready(Hundred(val_size=30, batch_size=16)).train_dataloader()
    dm = ready(Hundred(val_size=30, batch_size=16, num_workers=2, persistent_workers=persistent, prefetch_factor=3))
    helped = dm.train_dataloader()
    for epoch in range(2):
        for loader in (alone, helped):
            loader.sampler.set_epoch(epoch)
        for (x, y), (x_helped, y_helped) in zip(alone, helped, strict=True):
            assert x.equal(x_helped)
            assert y.equal(y_helped)


class ProcessIds(ArrayDataset):
    """Hands out the number of the process that loads, in the place of the labels."""

    def __getitems__(self, indices: list[int]) -> Batch:
        x, y = super().__getitems__(indices)
        return x, torch.full_like(y, os.getpid())


def test_workers_are_processes() -> None:
    dm = ready(Hundred(val_size=30, batch_size=16, num_workers=2))
    dm.train_set = ProcessIds(dm.train_set.x, dm.train_set.y, dm.train_set.indices)
    numbers = {int(number) for _, y in dm.train_dataloader() for number in y}
    assert len(numbers) == 2
    assert os.getpid() not in numbers


def test_torch_refuses_a_sampler_together_with_shuffle() -> None:
    dm = ready(Hundred(val_size=30))
    sampler = dm.train_dataloader().sampler
    assert isinstance(sampler.sampler, RandomSampler)  # where none is named
    with pytest.raises(ValueError, match="mutually exclusive"):
        DataLoader(dm.train_set, sampler=sampler, shuffle=True)


def test_every_option_reaches_the_loader() -> None:
    options = {"num_workers": 2, "pin_memory": True, "persistent_workers": True, "prefetch_factor": 4}
    dm = ready(Hundred(val_size=30, batch_size=16, drop_last=True, **options))
    loaders = [dm.train_dataloader(), dm.val_dataloader(), dm.test_dataloader(), dm.predict_dataloader()]
    for loader in loaders:
        assert loader.batch_size == 16
        assert {name: getattr(loader, name) for name in options} == options
    assert [loader.drop_last for loader in loaders] == [True, False, False, False]


@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
def test_pinned_batches_are_the_same_batches() -> None:
    plain = ready(Hundred(val_size=30)).train_dataloader()
    pinned = ready(Hundred(val_size=30, pin_memory=True)).train_dataloader()
    assert numbers(plain) == numbers(pinned)
    x, _ = next(iter(pinned))
    assert x.is_pinned() == torch.cuda.is_available()  # there must be something to copy to
    assert x.untyped_storage().filename is None  # the file of a mapped tensor


def test_a_subset_sampler_trains_on_exactly_its_samples() -> None:
    dm = ready(Hundred(val_size=30, sampler=SubsetRandomSampler(indices=[10, 20])))
    train = dm.train_set.x[dm.train_set.indices].flatten()
    assert sorted(numbers(dm.train_dataloader())) == [int(train[10]), int(train[20])]
    assert len(dm.train_dataloader()) == 1


def test_a_sequential_sampler_goes_in_order() -> None:
    dm = ready(Hundred(val_size=30, sampler=SequentialSampler))
    assert numbers(dm.train_dataloader()) == dm.train_set.x[dm.train_set.indices].flatten().tolist()


def test_a_sampler_may_draw_fewer_samples_than_there_are() -> None:
    dm = ready(Hundred(val_size=30, sampler=lambda dataset: RandomSampler(dataset, num_samples=25)))
    assert len(set(numbers(dm.train_dataloader()))) == 25


def test_a_weighted_sampler_draws_as_often_as_it_weighs() -> None:
    weights = [0.0] * 40 + [1.0] * 15 + [3.0] * 15
    dm = ready(Hundred(val_size=30, sampler=WeightedRandomSampler(weights, num_samples=20_000)))
    position = {int(x): i for i, x in enumerate(dm.train_set.x[dm.train_set.indices])}
    counts = Counter(position[i] for i in numbers(dm.train_dataloader()))
    assert sum(counts[i] for i in range(40)) == 0
    assert sum(counts[i] for i in range(55, 70)) / 20_000 == pytest.approx(0.75, abs=0.02)


def test_a_class_balanced_sampler_draws_rare_classes_as_often() -> None:
    dm = ready(Hundred(val_size=1, sampler=lambda dataset: ClassBalancedSampler(dataset, num_samples=20_000)))
    rare = dm.train_set.indices[(dm.train_set.labels != 3) | (dm.train_set.indices < 10)]
    dm.train_set = ArrayDataset(dm.train_set.x, dm.train_set.y, rare)
    assert dm.train_set.labels.bincount()[3] == 1
    drawn = torch.cat([y for _, y in dm.train_dataloader()]).bincount() / 20_000
    assert drawn.tolist() == pytest.approx([0.1] * 10, abs=0.01)


def test_a_class_balanced_epoch_is_as_long_as_the_split() -> None:
    dm = ready(Hundred(val_size=30, sampler=ClassBalancedSampler))
    assert len(numbers(dm.train_dataloader())) == 70


@pytest.mark.parametrize("indices", [np.array([3, 5]), np.array([3, 5], np.int32), torch.tensor([3, 5])])
def test_indices_may_come_as_an_array(indices: Any) -> None:
    dm = ready(Hundred(val_size=30, sampler=SubsetRandomSampler(indices)))
    assert sorted(numbers(dm.train_dataloader())) == dm.train_set.x[dm.train_set.indices[[3, 5]]].flatten().tolist()


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (SubsetRandomSampler([3, 70]), "draws index 70, but there are only 0 to 69"),
        (SubsetRandomSampler([3, -1]), "draws index -1, but there are only 0 to 69"),
        (SubsetRandomSampler([0.5, 1.5]), "must draw indices, which are ints, but draws floats"),
        (SubsetRandomSampler, "must draw indices, which are ints, but draws tuples"),
    ],
)
def test_a_sampler_that_draws_no_sample_is_refused(sampler: Any, message: str) -> None:
    dm = ready(Hundred(val_size=30, sampler=sampler))
    with pytest.raises(UserError, match=f"sampler SubsetRandomSampler {message}"):
        next(iter(dm.train_dataloader()))


def test_an_epoch_without_a_batch_is_refused() -> None:
    dm = ready(Hundred(val_size=30, batch_size=71, drop_last=True))
    with pytest.raises(UserError, match="an epoch of 70 training samples per process has no batch"):
        dm.train_dataloader()
    dm = ready(Hundred(val_size=30, sampler=SubsetRandomSampler([])))
    with pytest.raises(UserError, match="an epoch of 0 training samples"):
        dm.train_dataloader()


def test_what_torch_refuses_is_one_line() -> None:
    for options in (
        {"batch_size": 0},
        {"num_workers": -1},
        {"persistent_workers": True},
        {"prefetch_factor": 2},
    ):
        with pytest.raises(UserError, match=r"\ADataLoader: [^\n]+\Z"):
            ready(Hundred(val_size=30, **options)).train_dataloader()


def test_predict_returns_the_whole_test_set_in_order() -> None:
    dm = Images(batch_size=3, drop_last=True)
    predictions = make_trainer().predict(Recorder(), datamodule=dm)
    assert [len(p) for p in predictions] == [3, 3, 2]  # type: ignore[union-attr, arg-type]
    assert torch.cat(predictions).equal(dm.normalize(dm.test_set.x))  # type: ignore[arg-type]
