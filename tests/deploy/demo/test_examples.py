from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from leyden.data.digits import DigitsDataModule
from leyden.data.mnist import MNISTDataModule
from leyden.deploy.demo.examples import read_examples

NAMES = [f"digit {i}" for i in range(10)]


def test_there_is_one_test_image_of_each_class_with_its_label() -> None:
    examples = read_examples(DigitsDataModule(size=8), NAMES)
    assert examples.labels == NAMES
    digits = load_digits()
    for number, image in enumerate(examples.images):
        same = (digits.images == np.round(image[0] * (16 / 255))).all(axis=(1, 2))  # 16 is white
        assert digits.target[same].tolist() == [number]


def test_images_of_255_levels_are_as_they_are(mnist_root: Path) -> None:
    data = MNISTDataModule(str(mnist_root), val_size=50)
    examples = read_examples(data, NAMES)
    assert np.array_equal(examples.images[3], data.test_set.x[3].numpy())  # the labels are 0 to 9, 0 to 9, ...


def test_missing_data_are_a_reason_and_are_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEYDEN_OFFLINE", "1")
    examples = read_examples(MNISTDataModule(str(tmp_path / "none")), NAMES)
    assert not examples.images
    assert "is missing and cannot be downloaded (LEYDEN_OFFLINE is set)" in examples.reason
    assert [*tmp_path.iterdir()] == []
