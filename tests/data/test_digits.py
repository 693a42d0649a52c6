"""The digits of scikit-learn."""

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from leyden.data.datamodules import ArrayDataset
from leyden.data.digits import DIGITS_MEAN, DIGITS_STD, DigitsDataModule


def ready(**kwargs: int) -> DigitsDataModule:
    dm = DigitsDataModule(**kwargs)  # type: ignore[arg-type]
    dm.setup()
    return dm


def rows(x: Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x.flatten(1).to(torch.uint8)}


def test_all_images_are_there_once_at_their_own_size() -> None:
    dm = ready(size=8)
    assert (len(dm.train_set), len(dm.val_set), len(dm.test_set)) == (1237, 200, 360)
    assert rows(torch.cat([dm.train_set.x, dm.test_set.x])) == rows(torch.from_numpy(load_digits().images))
    assert not rows(dm.train_set.x) & rows(dm.test_set.x)


def test_every_digit_has_its_share_of_the_test_set() -> None:
    share = ready().test_set.labels.bincount() / torch.from_numpy(load_digits().target).bincount()
    assert share.tolist() == pytest.approx([0.2] * 10, abs=0.005)


@pytest.mark.parametrize("split_seed", [0, 1])
def test_every_digit_has_its_share_of_the_validation_set(split_seed: int) -> None:
    counts = ready(split_seed=split_seed).val_set.labels.bincount()
    assert counts.tolist() == [20, 20, 20, 20, 20, 20, 20, 20, 20, 20]  # of 139 to 146, where 200 of 1 437 are held out
    plain = ready(split_seed=split_seed, stratify=False).val_set.labels.bincount()
    assert plain.max() - plain.min() >= 10


def test_the_split_is_the_same_every_time() -> None:
    torch.manual_seed(1)
    first = ready(split_seed=1).test_set.x
    torch.manual_seed(2)
    assert ready(split_seed=2).test_set.x.equal(first)


@pytest.mark.parametrize("size", [8, 28, 32])
def test_images_have_the_size_asked_for(size: int) -> None:
    dm = ready(size=size)
    x, _ = next(iter(dm.train_dataloader()))
    assert dm.input_shape == tuple(x.shape[1:]) == (1, size, size)
    assert (x.dtype, int(dm.train_set.x.max())) == (torch.uint8, 16)


@pytest.mark.parametrize(("size", "std"), [(28, DIGITS_STD), (8, 0.3761)])
def test_the_constants_are_those_of_the_training_images_at_the_default_size(size: int, std: float) -> None:
    pixels = ready(size=size).train_set.x.double() / 16
    assert float(pixels.mean()) == pytest.approx(DIGITS_MEAN, abs=2e-4)
    assert float(pixels.std()) == pytest.approx(std, abs=5e-5)


def test_training_images_are_normalised_to_mean_zero_and_standard_deviation_one() -> None:
    dm = ready()
    x = dm.normalize(dm.train_set.x).double()
    assert float(x.mean()) == pytest.approx(0, abs=2e-4)
    assert float(x.std()) == pytest.approx(1, abs=2e-4)


def test_a_linear_model_learns_the_enlarged_digits() -> None:
    dm = ready()

    def features(dataset: ArrayDataset) -> Tensor:
        return dm.normalize(dataset.x[dataset.indices]).flatten(1)

    model = LogisticRegression(max_iter=200).fit(features(dm.train_set), dm.train_set.labels)
    assert model.score(features(dm.test_set), dm.test_set.labels) > 0.95
