"""An exported ONNX file predicts as its checkpoint does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import leyden
from leyden.data.image_files import ImageReader
from leyden.errors import UserError

from .export.onnx_files import write_onnx
from .stored import CLUSTERS, COLOURED, DIGITS, FUNCTION, GREY, pixels, save_images, store


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def assert_equal(actual: list[leyden.deploy.predictor.Prediction], expected: list[object]) -> None:
    assert [p.class_name for p in actual] == [p.class_name for p in expected]
    assert [list(p.probabilities) for p in actual] == [list(p.probabilities) for p in expected]
    for one, other in zip(actual, expected, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.probability == max(one.probabilities.values())


def test_files_pictures_arrays_and_tensors_are_predicted_as_by_the_checkpoint() -> None:
    checkpoint = leyden.load(store()[0])
    predictor = leyden.load(write_onnx(checkpoint, Path("model.onnx")))
    assert predictor.reader == checkpoint.reader == ImageReader(3, 32)
    assert predictor.class_names == checkpoint.class_names
    assert predictor.input_shape == (3, 32, 32)
    images = pixels(70)  # more than one batch
    arrays = list(images.transpose(0, 2, 3, 1))
    large = Image.fromarray(arrays[0]).resize((50, 40))
    inputs = [*save_images(images[:2]), large, *arrays, torch.from_numpy(images[5])]
    assert_equal(predictor.predict(inputs), checkpoint.predict(inputs))
    assert predictor.predict(arrays[0]) == predictor.predict(arrays[:2])[0]
    for refused in (np.zeros((4, 4), np.float32), "nowhere.png"):
        with pytest.raises(ValueError, match=r"uint8|nowhere\.png"):
            predictor.predict(refused)


def test_grey_digits_are_predicted_from_raw_pixels() -> None:
    checkpoint = leyden.load(store("leyden.models.mlp.MLP", GREY, DIGITS)[0])
    predictor = leyden.load(write_onnx(checkpoint, Path("model.onnx")))
    digits = list(pixels(3, (28, 28, 1)))
    assert_equal(predictor.predict(digits), checkpoint.predict(digits))


@pytest.mark.parametrize(
    ("class_path", "arguments", "data"),
    [
        ("leyden.models.mlp.MLP", {"input_shape": [16], "num_classes": 5}, CLUSTERS),
        ("leyden.models.linear_regression.LinearRegression", {"input_shape": [1], "out_features": 1}, FUNCTION),
    ],
)
def test_models_of_numbers_take_numbers(class_path: str, arguments: dict[str, object], data: dict[str, object]) -> None:
    checkpoint = leyden.load(store(class_path, arguments, data)[0])
    predictor = leyden.load(write_onnx(checkpoint, Path("model.onnx")))
    numbers = np.random.default_rng(0).normal(size=(3, *arguments["input_shape"])).astype(np.float32)
    actual, expected = predictor.predict(numbers), checkpoint.predict(numbers)
    if checkpoint.class_names:
        assert_equal(actual, expected)
    else:
        assert np.allclose(actual, expected, atol=1e-6)
    with pytest.raises(ValueError, match="takes numbers of shape"):
        predictor.predict(np.zeros((3, 7, 2)))


def test_another_device_than_the_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="computed on the CPU, not on cuda"):
        leyden.load("model.onnx", device="cuda")


def test_without_onnxruntime_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leyden.deploy.extras.find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(UserError, match=r'leyden export needs onnxruntime: pip install "leyden\[export\]"'):
        leyden.load("model.onnx")


def test_what_onnxruntime_cannot_run_is_refused_in_one_line() -> None:
    file = write_onnx(leyden.load(store(arguments=COLOURED)[0]), Path("model.onnx"))
    model = onnx.load(file)
    model.ir_version = 999  # of a future that onnxruntime does not know
    onnx.save(model, file)
    with pytest.raises(UserError, match=r"cannot run|no ONNX file") as refused:
        leyden.load(file)
    assert "\n" not in str(refused.value)
