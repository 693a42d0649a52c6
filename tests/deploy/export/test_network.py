"""The network in a file takes raw inputs and answers as the predictor does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import leyden
from leyden.data.digits import DigitsDataModule
from leyden.deploy.export.network import raw_network
from leyden.errors import UserError

from ..stored import CIFAR10, CLUSTERS, COLOURED, DIGITS, FUNCTION, GREY, pixels, store

LINEAR = "leyden.models.linear_regression.LinearRegression"
TRANSFER = "leyden.models.transfer.TransferClassifier"
RESNET = {**COLOURED, "backbone": "resnet18", "image_size": 40}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("class_path", "arguments", "data"),
    [
        ("leyden.models.conv_net.ConvNet", GREY, DIGITS),
        ("leyden.models.conv_net.ConvNet", COLOURED, CIFAR10),
        (TRANSFER, RESNET, CIFAR10),
    ],
)
def test_raw_images_give_the_probabilities_of_the_predictor(
    class_path: str, arguments: dict[str, Any], data: dict[str, Any]
) -> None:
    store(class_path, arguments, data)
    predictor = leyden.load("model.ckpt")
    images = pixels(5, tuple(arguments["input_shape"]))
    expected = predictor.run(predictor.normalize([*images]))["probabilities"]
    with torch.no_grad():
        torch.testing.assert_close(raw_network(predictor)(torch.from_numpy(images)), expected, rtol=0, atol=1e-6)


def test_every_grey_level_is_rounded_as_the_predictor_rounds_it() -> None:
    store(arguments=GREY, data=DIGITS)
    predictor = leyden.load("model.ckpt")
    levels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1).repeat(28, 2).repeat(28, 3)
    scale: Any = raw_network(predictor).scale
    torch.testing.assert_close(scale(torch.from_numpy(levels)), predictor.normalize([*levels]))


@pytest.mark.parametrize(
    ("class_path", "arguments", "data"),
    [
        (LINEAR, {"input_shape": [10], "out_features": 2}, FUNCTION),
        ("leyden.models.mlp.MLP", {"input_shape": [10], "num_classes": 10}, CLUSTERS),
    ],
)
def test_numbers_are_not_scaled(class_path: str, arguments: dict[str, Any], data: dict[str, Any]) -> None:
    _, model = store(class_path, arguments, data)
    x = torch.randn(3, 10)
    with torch.no_grad():
        expected = model(x) if class_path == LINEAR else model(x).softmax(dim=1)
        assert torch.equal(raw_network(leyden.load("model.ckpt"))(x), expected)


def test_preprocessing_by_other_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inverted(DigitsDataModule):
        def normalize(self, x: Tensor) -> Tensor:
            return super().normalize(16 - x)

    store(arguments=GREY, data=DIGITS)
    predictor = leyden.load("model.ckpt")
    predictor.data = Inverted()
    with pytest.raises(UserError, match="Inverted normalises images by code of its own"):
        raw_network(predictor)
