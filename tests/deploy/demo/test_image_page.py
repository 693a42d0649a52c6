import re
from pathlib import Path
from typing import Any

import pytest
import torch

from leyden.deploy.demo.drawing import to_url
from leyden.deploy.demo.image_page import COUNT, draw_images, image_page

from ..stored import store

GPT = {"input_shape": [1, 8, 8], "num_classes": 10, "embed_dim": 8, "num_layers": 1, "num_heads": 1}
SMALL = {
    "class_path": "leyden.data.digits.DigitsDataModule",
    "init_args": {"size": 8, "mean": 0.0, "std": 1.0},
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return store("leyden.models.image_gpt.ImageGPT", GPT, SMALL)[1]


def test_the_images_are_those_that_the_model_draws_with_this_seed(model: Any) -> None:
    html, following = draw_images(model, 3, "three", 5)
    model.hparams["sample_seed"] = 5
    images = (model.sample(torch.full((COUNT,), 3)) * 255).round().to(torch.uint8).numpy()
    assert re.findall(r'src="([^"]*)"', html) == [to_url(image) for image in images]
    assert following == 6
    assert "Class three, seed 5" in html


def test_another_seed_draws_other_images(model: Any) -> None:
    assert draw_images(model, 3, "3", 0)[0].split("<img")[1:] != draw_images(model, 3, "3", 1)[0].split("<img")[1:]


@pytest.mark.parametrize("seed", [None, -1, 2.0**40])
def test_any_number_is_a_seed(model: Any, seed: float | None) -> None:
    assert 0 < draw_images(model, 0, "0", seed)[1] <= 2**32


def test_there_is_a_button_for_each_class(model: Any) -> None:
    for names in (None, [f"class {i}" for i in range(10)]):
        components = image_page(model, names, "run", "").config["components"]
        labels = [part["props"]["value"] for part in components if part["type"] == "button"]
        assert labels == (names or [str(i) for i in range(10)])
