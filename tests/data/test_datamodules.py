"""The split, the loaders and what is done to whole batches."""

import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from sklearn.model_selection import StratifiedShuffleSplit
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from leyden.data.datamodules import SHARED_ARRAYS, ArrayDataModule, ArrayDataset, Batch, ImageDataModule
from leyden.data.samplers import ClassBalancedSampler
from leyden.data.synthetic import SyntheticRegressionDataModule
from leyden.data.transforms import RandomCrop, RandomHorizontalFlip
from leyden.errors import UserError


class Hundred(ArrayDataModule):
    """Training samples 0 to 99 and test samples 100 to 119, each its own number."""

    input_shape = (1,)
    num_classes = 10
    reads = 0

    def load_arrays(self) -> tuple[Batch, Batch]:
        self.reads += 1
        x, y = torch.arange(120).unsqueeze(1), torch.arange(120) % 10
        return (x[:100], y[:100]), (x[100:], y[100:])


class Images(ImageDataModule):
    """Random images of three channels."""

    input_shape = (3, 8, 8)
    num_classes = 2

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"val_size": 8, "batch_size": 8, "mean": 0.5, "std": 0.25, **kwargs})

    def load_arrays(self) -> tuple[Batch, Batch]:
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(1, 256, (48, *self.input_shape), dtype=torch.uint8, generator=generator)
        y = torch.arange(48) % 2
        return (x[:40], y[:40]), (x[40:], y[40:])


class Recorder(LightningModule):
    """Keeps every batch it is given, and uses up random numbers as dropout would."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.train_batches: list[Tensor] = []
        self.eval_batches: list[Tensor] = []
        self.random: list[float] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.train_batches.append(batch[0])
        self.random.append(float(torch.rand(())))
        return self.weight.sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.eval_batches.append(batch[0])
        torch.rand(7)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.eval_batches.append(batch[0])

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return batch[0]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # as a schedule over the whole run does; Lightning then makes the loader before it restores a run
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(**kwargs: Any) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{"accelerator": "cpu", "max_epochs": 2, **quiet, **kwargs})


def ready(dm: ArrayDataModule) -> Any:
    dm.setup()
    return dm


def numbers(loader: DataLoader[Batch]) -> list[int]:
    return [int(i) for x, _ in loader for i in x]


# The split


def test_the_splits_are_disjoint_and_cover_the_training_set() -> None:
    dm = ready(Hundred(val_size=30))
    train, val = (set(s.x[s.indices].flatten().tolist()) for s in (dm.train_set, dm.val_set))
    assert (len(train), len(val)) == (70, 30)
    assert train | val == set(range(100))


def test_the_test_set_is_the_official_one_in_order() -> None:
    dm = ready(Hundred(val_size=30, split_seed=5))
    assert numbers(dm.test_dataloader()) == list(range(100, 120))
    assert numbers(dm.predict_dataloader()) == list(range(100, 120))


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


def test_the_arrays_are_held_once() -> None:
    dm = ready(Hundred(val_size=30))
    assert dm.train_set.x.data_ptr() == dm.val_set.x.data_ptr()


def test_setup_reads_the_data_once_for_all_stages() -> None:
    dm = Hundred(val_size=30)
    for stage in ["fit", "validate", "test", "predict", "fit"]:
        dm.setup(stage)
    assert dm.reads == 1


@pytest.mark.parametrize("val_size", [-1, 0, 100, 1000])
def test_a_validation_size_that_leaves_no_sample_is_refused(val_size: int) -> None:
    with pytest.raises(UserError, match=f"val_size must be 1 to 99 of the 100 training samples, but is {val_size}"):
        Hundred(val_size=val_size).setup()


def test_labels_outside_the_classes_are_refused() -> None:
    dm = Hundred(val_size=30)
    dm.num_classes = 9
    with pytest.raises(UserError, match="labels 0 to 9, but num_classes is 9: they must be 0 to 8"):
        dm.setup()


def test_the_brightest_pixel_is_no_label() -> None:
    class Pixels(Hundred):
        def load_arrays(self) -> tuple[Batch, Batch]:
            images = torch.eye(784)
            batch = images, images.argmax(dim=1)
            return batch, batch

    with pytest.raises(UserError, match="labels 0 to 783, but num_classes is 10"):
        Pixels(val_size=30).setup()


# The dataset


def test_a_batch_is_what_its_samples_are_one_by_one() -> None:
    x, y = torch.randn(20, 3), torch.arange(20)
    dataset = ArrayDataset(x, y, indices=torch.tensor([5, 3, 17, 8]))
    assert len(dataset) == 4
    assert dataset.labels.tolist() == [5, 3, 17, 8]
    batch_x, batch_y = dataset.__getitems__([2, 0, 2])
    assert batch_x.equal(torch.stack([dataset[2][0], dataset[0][0], dataset[2][0]]))
    assert batch_y.tolist() == [17, 5, 17]


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_outside_the_dataset_is_refused(index: int) -> None:
    dataset = ArrayDataset(torch.zeros(9, 1), torch.zeros(9), indices=torch.arange(4))
    with pytest.raises(IndexError):
        dataset.__getitems__([0, index])


# The options of the loader, each beside a plain DataLoader


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


# Images


def test_normalisation_is_the_formula() -> None:
    dm = ready(Images(mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7]))
    x = dm.test_set.x
    normalised = dm.normalize(x)
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.6), (0.3, 0.7)]):
        torch.testing.assert_close(normalised[:, channel], (x[:, channel] / 255 - mean) / std)
    assert normalised.dtype == torch.float32


def test_one_mean_and_std_serve_all_channels() -> None:
    dm = ready(Images(mean=0.5, std=0.5))
    assert float(dm.normalize(torch.full((1, 3, 8, 8), 255)).min()) == 1.0
    assert float(dm.normalize(torch.zeros(1, 3, 8, 8)).max()) == -1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.1, 0.2]}, "mean has 2 numbers, but an image has 3 channels"),
        ({"std": [1.0] * 4}, "std has 4 numbers, but an image has 3 channels"),
        ({"std": 0.0}, "std must be positive"),
    ],
)
def test_constants_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Images(**options).setup()


def test_only_training_batches_are_augmented() -> None:
    dm, model = Images(augment=[RandomCrop(2)], sampler=SequentialSampler), Recorder()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(model, datamodule=dm)
    as_they_are = dm.normalize(dm.train_set.x[dm.train_set.indices])
    assert not torch.cat(model.train_batches).equal(as_they_are)
    assert torch.cat(model.eval_batches[-1:]).equal(dm.normalize(dm.val_set.x[dm.val_set.indices]))
    model.eval_batches.clear()
    trainer.test(model, datamodule=dm, verbose=False)
    assert torch.cat(model.eval_batches).equal(dm.normalize(dm.test_set.x))


def test_predict_returns_the_whole_test_set_in_order() -> None:
    dm = Images(batch_size=3, drop_last=True)
    predictions = make_trainer().predict(Recorder(), datamodule=dm)
    assert [len(p) for p in predictions] == [3, 3, 2]  # type: ignore[union-attr, arg-type]
    assert torch.cat(predictions).equal(dm.normalize(dm.test_set.x))  # type: ignore[arg-type]


def test_the_example_input_of_a_model_summary_is_left_alone() -> None:
    model, x = Recorder(), torch.rand(2, 3, 8, 8)
    model.example_input_array = x
    model.forward = lambda x: seen.append(x)  # type: ignore[method-assign]
    seen: list[Tensor] = []
    make_trainer(max_epochs=1, enable_model_summary=True).fit(model, datamodule=Images())
    assert seen[0].equal(x)


# What a run sees is a function of (seed, epoch, batch)


def what_a_run_sees(global_seed: int = 0, **kwargs: Any) -> tuple[Tensor, list[float]]:
    trainer = make_trainer(**kwargs.pop("trainer", {}))
    dm, model = Images(augment=[RandomCrop(2), RandomHorizontalFlip()], **kwargs), Recorder()
    torch.manual_seed(global_seed)
    trainer.fit(model, datamodule=dm)
    return torch.cat(model.train_batches), model.random


@pytest.mark.parametrize(
    "change",
    [
        {"num_workers": 2},
        {"num_workers": 2, "persistent_workers": True},
        {"global_seed": 1},
        {"trainer": {"val_check_interval": 0.5}},
        {"trainer": {"num_sanity_val_steps": 0, "limit_val_batches": 0}},
    ],
)
def test_a_run_sees_the_same_whatever_goes_on_beside_it(change: dict[str, Any]) -> None:
    x, random = what_a_run_sees()
    other_x, other_random = what_a_run_sees(**change)
    assert x.equal(other_x)
    assert random == other_random


def test_every_epoch_and_every_seed_is_different(monkeypatch: pytest.MonkeyPatch) -> None:
    x, random = what_a_run_sees()
    assert len(set(random)) == 8
    assert not x[:32].equal(x[32:])
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    other_x, other_random = what_a_run_sees()
    assert not x.equal(other_x)
    assert not set(random) & set(other_random)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop_after", [1, 4, 6])
def test_a_resumed_run_goes_on_with_the_very_next_batch(tmp_path: Any, num_workers: int, stop_after: int) -> None:
    class SaveOnce(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == stop_after:
                trainer.save_checkpoint(tmp_path / "run.ckpt")

    def make() -> tuple[Recorder, Images]:
        return Recorder(), Images(augment=[RandomCrop(2)], num_workers=num_workers)

    whole, dm = make()
    make_trainer(callbacks=[SaveOnce()]).fit(whole, datamodule=dm)
    rest, dm = make()
    make_trainer().fit(rest, datamodule=dm, ckpt_path=tmp_path / "run.ckpt")
    assert len(whole.train_batches) == 8
    assert torch.cat(rest.train_batches).equal(torch.cat(whole.train_batches[stop_after:]))
    assert rest.random == whole.random[stop_after:]


# Where the arrays are


class OnDevice:
    """As much of a Trainer as `setup` looks at."""

    def __init__(self, device: str, num_devices: int = 1) -> None:
        self.strategy = SimpleNamespace(root_device=torch.device(device))
        self.num_devices = num_devices
        self.world_size, self.global_rank, self.training = 1, 0, False


def test_arrays_lie_on_the_device_that_trains_if_asked_to() -> None:
    for asked, place in ((False, "cpu"), (True, "meta")):
        dm: Any = Hundred(val_size=30, on_device=asked)
        dm.trainer = OnDevice("meta")
        dm.setup()
        for dataset in (dm.train_set, dm.val_set, dm.test_set):
            assert {array.device.type for array in (dataset.x, dataset.y, dataset.indices)} == {place}
            assert {array.device.type for array in dataset.__getitems__([0, 1])} == {place}


def test_batches_from_the_device_are_those_from_the_loader() -> None:
    plain, there = ready(Hundred(val_size=30, batch_size=16)), Hundred(val_size=30, batch_size=16, on_device=True)
    there.trainer = OnDevice("cpu")  # type: ignore[assignment]
    there.setup()
    assert numbers(there.train_dataloader()) == numbers(plain.train_dataloader())


@pytest.mark.parametrize("option", [{"num_workers": 2}, {"pin_memory": True}])
def test_what_makes_no_sense_for_arrays_on_a_device_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="num_workers 0 and pin_memory false"):
        Hundred(val_size=30, on_device=True, **option).setup()


def test_processes_of_one_machine_share_the_file_of_the_one_that_started_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv(SHARED_ARRAYS, "")  # so that what is set below is forgotten after the test
    first = Hundred(val_size=30)
    first.trainer = OnDevice("cpu", num_devices=2)  # type: ignore[assignment]
    first.setup()
    starter, _, file = os.environ[SHARED_ARRAYS].partition(":")
    assert (starter, first.reads) == (str(os.getpid()), 1)

    monkeypatch.setattr(os, "getppid", os.getpid)  # as in a process that it has started
    second = Hundred(val_size=30)
    second.setup()
    assert second.reads == 0
    assert numbers(second.train_dataloader()) == numbers(ready(Hundred(val_size=30)).train_dataloader())
    maps = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else file
    assert file in maps
    Path(file).unlink()


def test_a_process_alone_or_started_by_others_writes_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED_ARRAYS, "")
    for num_devices, local_rank in ((1, None), (2, "0")):
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        if local_rank:
            monkeypatch.setenv("LOCAL_RANK", local_rank)
        dm = Hundred(val_size=30)
        dm.trainer = OnDevice("cpu", num_devices)  # type: ignore[assignment]
        dm.setup()
        assert (dm.reads, os.environ[SHARED_ARRAYS]) == (1, "")
