"""The samples on which a file is checked and calibrated."""

from pathlib import Path

import numpy as np
import pytest
import torch

import leyden
from leyden.data.digits import DigitsDataModule
from leyden.deploy.export.samples import Samples
from leyden.errors import UserError

from ..stored import CLUSTERS, DIGITS, GREY, store


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def digits() -> DigitsDataModule:
    data = DigitsDataModule()
    data.setup()
    return data


def test_raw_digits_have_the_full_range_and_become_the_same_inputs() -> None:
    store(arguments=GREY, data=DIGITS)
    predictor = leyden.load("model.ckpt")
    x, y = digits().test_set.__getitems__([*range(360)])
    (raw, inputs, targets), (last, _, _) = Samples(predictor).test(256)
    assert raw.dtype == np.uint8
    assert raw.max() == 255
    assert last.shape == (104, 1, 28, 28)
    assert torch.equal(inputs, predictor.data.normalize(x[:256]))
    assert torch.equal(predictor.normalize([*raw]), inputs)  # what the predictor makes of the raw images
    assert torch.equal(targets, y[:256])


def test_fewer_test_samples_are_repeated_where_a_batch_needs_more() -> None:
    store(arguments=GREY, data=DIGITS)
    samples = Samples(leyden.load("model.ckpt"), limit=3)
    assert samples.num_test == 3
    ((raw, _, _),) = samples.test(7, 7)
    assert len(raw) == 7
    assert np.array_equal(raw[:3], raw[3:6])
    assert sum(len(raw) for raw, _, _ in samples.test(2)) == 3


def test_the_calibration_uses_training_images_and_no_others() -> None:
    store(arguments=GREY, data=DIGITS)
    samples = Samples(leyden.load("model.ckpt"))
    drawn = np.concatenate([*samples.calibration()])
    assert drawn.shape == (1000, 1, 28, 28)
    x, _ = digits().train_set.__getitems__([*range(1237)])
    allowed = {image.tobytes() for image in (x * (255 / 16)).round().to(torch.uint8).numpy()}
    assert {image.tobytes() for image in drawn} <= allowed
    assert np.array_equal(drawn, np.concatenate([*samples.calibration()]))


def test_numbers_are_taken_as_they_are() -> None:
    store("leyden.models.mlp.MLP", {"input_shape": [10], "num_classes": 10}, CLUSTERS)
    raw, inputs, _ = next(Samples(leyden.load("model.ckpt")).test(5))
    assert raw.dtype == np.float32
    assert np.array_equal(raw, inputs.numpy())


def test_a_checkpoint_without_data_is_refused() -> None:
    store(data=None)
    with pytest.raises(UserError, match="names no data"):
        Samples(leyden.load("model.ckpt"))
