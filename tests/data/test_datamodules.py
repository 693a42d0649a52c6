"""What is done to arrays and batches, and what a run sees of them."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor
from torch.utils.data import (
    SequentialSampler,
)

from leyden.data.array_dataset import Batch
from leyden.data.boxes import RandomErasing
from leyden.data.datamodules import ImageDataModule
from leyden.data.mix import Mixup, MixupOrCutMix
from leyden.data.transforms import RandomCrop, RandomHorizontalFlip
from leyden.data.trivial_augment import TrivialAugment
from leyden.errors import UserError

from .arrays import Hundred, Images, OnDevice, Recorder, make_trainer, numbers, ready


def test_the_test_set_is_the_official_one_in_order() -> None:
    dm = ready(Hundred(val_size=30, split_seed=5))
    assert numbers(dm.test_dataloader()) == list(range(100, 120))
    assert numbers(dm.predict_dataloader()) == list(range(100, 120))


def test_setup_reads_the_data_once_for_all_stages() -> None:
    dm = Hundred(val_size=30)
    for stage in ["fit", "validate", "test", "predict", "fit"]:
        dm.setup(stage)
    assert dm.reads == 1


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


def test_the_example_input_of_a_model_summary_is_left_alone() -> None:
    model, x = Recorder(), torch.rand(2, 3, 8, 8)
    model.example_input_array = x
    model.forward = lambda x: seen.append(x)  # type: ignore[method-assign]
    seen: list[Tensor] = []
    make_trainer(max_epochs=1, enable_model_summary=True).fit(model, datamodule=Images())
    assert seen[0].equal(x)


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


def test_a_batch_is_preprocessed_without_a_trainer_and_augmented_only_if_asked_to() -> None:
    dm = ready(Images(augment=[RandomCrop(2)]))
    batch = dm.train_set.x[:8], dm.train_set.y[:8]
    x, y = dm.preprocess(batch, training=False)
    assert torch.equal(x, dm.normalize(batch[0]))
    assert torch.equal(y, batch[1])
    torch.manual_seed(0)
    x, _ = dm.preprocess(batch, training=True)
    torch.manual_seed(0)
    assert torch.equal(x, dm.normalize(RandomCrop(2)(batch[0])))


class Mixed(Recorder):
    """Keeps the targets too."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[Tensor] = []
        self.eval_targets: list[Tensor] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.targets.append(batch[1])
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.eval_targets.append(batch[1])
        super().validation_step(batch, batch_idx)


def test_only_training_batches_are_mixed() -> None:
    dm, model = Images(mix=Mixup(1.0), sampler=SequentialSampler), Mixed()
    make_trainer(max_epochs=1).fit(model, datamodule=dm)
    train, val = dm.train_set, dm.val_set
    x, target = torch.cat(model.train_batches), torch.cat(model.targets)
    assert target.shape == (32, 2)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(32))
    assert ((target > 0) & (target < 1)).any()
    assert not x.equal(dm.normalize(train.x[train.indices]))
    assert torch.cat(model.eval_batches[-1:]).equal(dm.normalize(val.x[val.indices]))
    assert torch.cat(model.eval_targets[-1:]).equal(val.y[val.indices])


def test_a_resumed_run_mixes_the_very_next_batch_in_the_same_way(tmp_path: Any) -> None:
    class SaveOnce(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 5:
                trainer.save_checkpoint(tmp_path / "run.ckpt")

    def make() -> tuple[Mixed, Images]:
        return Mixed(), Images(augment=[RandomErasing(), TrivialAugment()], mix=MixupOrCutMix())

    whole, dm = make()
    make_trainer(callbacks=[SaveOnce()]).fit(whole, datamodule=dm)
    rest, dm = make()
    make_trainer().fit(rest, datamodule=dm, ckpt_path=tmp_path / "run.ckpt")
    assert torch.cat(rest.train_batches).equal(torch.cat(whole.train_batches[5:]))
    assert torch.cat(rest.targets).equal(torch.cat(whole.targets[5:]))


def test_mixing_needs_class_labels() -> None:
    no_classes = type("Plain", (ImageDataModule,), {"input_shape": (3, 8, 8), "load_arrays": lambda self: None})
    with pytest.raises(UserError, match="mix needs class labels, which Plain does not have: leave it out"):
        no_classes(val_size=8, mean=0.5, std=0.25, mix=Mixup()).setup()


def test_a_transform_that_needs_the_full_range_of_pixels_gets_it() -> None:
    seen = []

    class Invert(torch.nn.Module):
        full_range = True

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return 255 - x

    class Sixteen(Images):
        pixel_max = 16

    x = torch.arange(17, dtype=torch.uint8).expand(2, 3, 1, 17)
    dm = Sixteen(augment=[Invert()])
    changed, _ = dm.preprocess((x, torch.zeros(2)), training=True)
    assert seen[0].flatten().unique().tolist() == [round(level * 255 / 16) for level in range(17)]
    assert changed.equal(dm.normalize(16 - x))
    Images(augment=[Invert()]).preprocess((x, torch.zeros(2)), training=True)
    assert seen[1].equal(x)
