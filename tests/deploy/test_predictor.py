"""Predictions in Python are those of the plain network, whatever the form of an image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from PIL import Image

import leyden
from leyden.data.cifar10 import CIFAR10_CLASSES, CIFAR10_MEAN, CIFAR10_STD
from leyden.data.digits import DigitsDataModule
from leyden.deploy.predictor import Prediction
from leyden.errors import UserError

from .stored import CLUSTERS, CONVNET, DIGITS, FUNCTION, GREY, pixels, save_images, store


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def expected(model: torch.nn.Module, images: np.ndarray) -> torch.Tensor:
    """Probabilities by the formula of the normalisation."""
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (CIFAR10_MEAN, CIFAR10_STD))
    with torch.no_grad():
        logits: torch.Tensor = model((torch.from_numpy(images) / 255 - mean) / std)
    return logits.softmax(dim=1)


def test_an_image_in_any_form_is_predicted_as_by_the_plain_network() -> None:
    file, model = store()
    image = pixels(1)
    (name,) = save_images(image)
    array = image[0].transpose(1, 2, 0)  # (H, W, C)
    probabilities = expected(model, image)[0]
    predictor = leyden.load(file)
    forms: list[Any] = [name, Path(name), Image.open(name), array, torch.from_numpy(image[0])]
    for form in (*forms, Image.fromarray(array).convert("RGBA")):
        prediction = predictor.predict(form)
        assert isinstance(prediction, Prediction)
        assert prediction.class_name == CIFAR10_CLASSES[int(probabilities.argmax())]
        assert list(prediction.probabilities) == list(CIFAR10_CLASSES)
        found = torch.tensor(list(prediction.probabilities.values()))
        torch.testing.assert_close(found, probabilities, rtol=0, atol=1e-6)
        assert prediction.probability == prediction.probabilities[prediction.class_name] == max(found.tolist())
    assert predictor.predict(forms) == [predictor.predict(forms)[0]] * len(forms)


def test_a_list_longer_than_a_batch_is_predicted_in_order() -> None:
    file, model = store()
    images = pixels(40)
    predictions = leyden.load(file).predict(save_images(images))
    found = torch.tensor([list(prediction.probabilities.values()) for prediction in predictions])
    torch.testing.assert_close(found, expected(model, images), rtol=0, atol=1e-6)
    assert leyden.load(file).predict([]) == []


def test_the_network_is_a_plain_module_with_the_same_logits() -> None:
    file, model = store()
    predictor = leyden.load(file)
    assert isinstance(predictor.network, torch.nn.Module)
    assert not isinstance(predictor.network, LightningModule)
    assert not predictor.network.training
    (name,) = save_images(pixels(1))
    x = predictor.preprocess([name])
    assert (x.dtype, x.shape) == (torch.float32, (1, 3, 32, 32))
    with torch.no_grad():
        assert torch.equal(predictor.network(x), model(x))
        (values,) = predictor.network(x).softmax(dim=1).tolist()
    assert values == list(predictor.predict(name).probabilities.values())


def test_pixels_are_scaled_to_the_range_of_the_data() -> None:
    file, _ = store(CONVNET, GREY, DIGITS)  # their pixels are 0 to 16
    levels = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28) % 17
    x = leyden.load(file).preprocess([(levels * 255.0 / 16).round().astype(np.uint8)])
    assert torch.equal(x, DigitsDataModule().normalize(torch.from_numpy(levels)[None, None]))


def test_a_classifier_of_numbers_takes_numbers() -> None:
    file, model = store("leyden.models.mlp.MLP", {"input_shape": [10], "num_classes": 10}, CLUSTERS)
    predictor = leyden.load(file)
    x = torch.randn(3, 10)
    with torch.no_grad():
        probabilities = model(x).softmax(dim=1)
    predictions = predictor.predict(x)
    assert [prediction.class_name for prediction in predictions] == [str(i) for i in probabilities.argmax(1).tolist()]
    found = torch.tensor([prediction.probability for prediction in predictions])
    torch.testing.assert_close(found, probabilities.max(dim=1).values)
    assert predictor.predict(x[1].tolist()).class_name == predictions[1].class_name


def test_a_regressor_predicts_values() -> None:
    path = "leyden.models.linear_regression.LinearRegression"
    file, model = store(path, {"input_shape": [10], "out_features": 2}, FUNCTION)
    x = torch.randn(3, 10)
    predictor = leyden.load(file)
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(predictor.predict(x.numpy())), model(x))
    assert predictor.predict(x[0]) == predictor.predict(x)[0]
    assert predictor.class_names == []


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("missing.png", "missing.png: cannot be read: No such file"),
        ("broken.png", "broken.png: not an image"),
        (np.zeros((32, 32, 3)), "an image of type float64 and shape .32, 32, 3.: give uint8"),
        (np.zeros((5, 32, 32, 3), np.uint8), "shape .5, 32, 32, 3.: give uint8"),
        (torch.zeros(2, 32, 32, dtype=torch.uint8), "shape .2, 32, 32.: give uint8"),
        (Image.new("RGB", (1, 1)), "a single pixel"),
        (7, "an image of type int64"),
    ],
)
def test_what_is_no_image_is_named_in_one_line(image: Any, reason: str) -> None:
    Path("broken.png").write_text("no image")
    file, _ = store()
    with pytest.raises(ValueError, match=reason) as refused:
        leyden.load(file).predict(image)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("numbers", ["cat.jpg", [1.0, 2.0], torch.zeros(2, 2, 10), None])
def test_what_is_no_input_of_numbers_is_named_in_one_line(numbers: Any) -> None:
    file, _ = store("leyden.models.mlp.MLP", {"input_shape": [10], "num_classes": 10}, CLUSTERS)
    with pytest.raises(ValueError, match=r"MLP takes numbers of shape \(10,\), not ") as refused:
        leyden.load(file).predict(numbers)
    assert "\n" not in str(refused.value)


def test_a_device_that_is_not_there_is_refused() -> None:
    file, _ = store()
    with pytest.raises(UserError, match="cannot compute on nowhere"):
        leyden.load(file, device="nowhere")


def test_mixed_precision_is_that_of_the_training() -> None:
    file, model = store(precision="bf16-mixed")
    predictor = leyden.load(file)
    x = predictor.preprocess(list(pixels(3).transpose(0, 2, 3, 1)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(x)
    assert logits.dtype == torch.bfloat16
    assert torch.equal(predictor.run(x)["probabilities"], logits.float().softmax(dim=1))
