"""The exported decoder draws what the ImageGPT draws."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from leyden import PROJECT
from leyden.callbacks import sample_grid
from leyden.cli.main import main
from leyden.deploy.export.decoder import largest_difference, write_decoder
from leyden.models.image_gpt import ImageGPT

from ...test_docs import blocks

WITHOUT_LEYDEN = "import runpy, sys; sys.modules['leyden'] = None; runpy.run_path('draw.py', run_name='__main__')"
CLASS_NAMES = {"class_names": json.dumps([str(digit) for digit in range(10)])}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(**arguments: Any) -> ImageGPT:
    """A model with weights that make some levels likelier than others."""
    torch.manual_seed(0)
    sizes = {"input_shape": (1, 8, 8), "num_classes": 10, "embed_dim": 16, "num_layers": 2, "num_heads": 2}
    model = ImageGPT(**(sizes | arguments))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.eval()


def levels_in(images: torch.Tensor, columns: int) -> np.ndarray:
    """The pixels 0 to 255 of one picture with a row for each class, as the example arranges them."""
    rows = [torch.cat([*row], dim=2) for row in images.split(columns)]  # (C, H, columns * W)
    return np.asarray((torch.cat(rows, dim=1) * 255).round().permute(1, 2, 0).squeeze().to(torch.uint8))


def draw() -> np.ndarray:
    """Runs the documented example where this project cannot be imported."""
    (code,) = [block.text for block in blocks(PROJECT / "docs" / "deployment.md") if "`draw.py`" in block.before]
    Path("draw.py").write_text(code)
    subprocess.run([sys.executable, "-c", WITHOUT_LEYDEN, "decoder.onnx"], check=True)
    return np.asarray(Image.open("drawn.png"))


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_each_step_gives_the_logits_of_the_whole_sequence(batch_size: int) -> None:
    model = make()
    write_decoder(model, CLASS_NAMES, Path("decoder.onnx"))
    session = onnxruntime.InferenceSession("decoder.onnx", providers=["CPUExecutionProvider"])
    tokens = torch.randint(0, 17, (batch_size, 64))
    tokens[:, 0] = 17 + torch.arange(batch_size)
    with torch.no_grad():
        expected = model(tokens).numpy()  # without a cache
    cache = np.zeros((2, 2, batch_size, 2, 0, 8), np.float32)
    for length in range(1, 65):
        logits, cache = session.run(None, {"tokens": tokens[:, :length].numpy(), "cache": cache})
        assert np.allclose(logits, expected[:, length - 1], atol=1e-4)
    assert cache.shape == (2, 2, batch_size, 2, 64, 8)
    assert largest_difference(Path("decoder.onnx"), model) < 1e-4


def test_another_model_is_told_apart() -> None:
    write_decoder(make(), CLASS_NAMES, Path("decoder.onnx"))
    other = make()
    with torch.no_grad():
        other.network.norm.bias += 0.1
    assert largest_difference(Path("decoder.onnx"), other) > 1e-3


def test_the_file_says_what_the_loop_needs_and_nothing_of_this_machine() -> None:
    write_decoder(make(temperature=0.5, sample_seed=3), CLASS_NAMES | {"license": "CC0"}, Path("decoder.onnx"))
    session = onnxruntime.InferenceSession("decoder.onnx", providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert about["license"] == "CC0"
    sampling = {"levels": 17, "image_shape": [1, 8, 8], "num_samples": 10, "temperature": 0.5, "top_k": 17, "seed": 3}
    assert json.loads(about["sampling"]) == sampling
    assert json.loads(about["input"]) == {"shape": ["N", "T"], "dtype": "int64"}
    assert {part.name: part.shape for part in (*session.get_inputs(), *session.get_outputs())} == {
        "tokens": ["N", "P + 1"],
        "cache": [2, 2, "N", 2, "P", 8],
        "logits": ["N", 17],
        "new_cache": [2, 2, "N", 2, "P + 1", 8],
    }
    assert str(PROJECT).encode() not in Path("decoder.onnx").read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"num_samples": 3}, marks=pytest.mark.slow),
        {"num_samples": 2, "temperature": 0.7, "top_k": 5, "sample_seed": 9},
        pytest.param({"num_samples": 2, "input_shape": (3, 8, 8), "pool": 2, "levels": 5}, marks=pytest.mark.slow),
    ],
)
def test_the_documented_loop_draws_the_images_of_the_model(arguments: dict[str, Any]) -> None:
    model = make(**arguments)
    write_decoder(model, CLASS_NAMES, Path("decoder.onnx"))
    images = model.sample(torch.arange(10).repeat_interleave(arguments["num_samples"]))
    assert images.std() > 0.1
    assert np.array_equal(draw(), levels_in(images, arguments["num_samples"]))


@pytest.mark.slow
def test_the_documented_loop_draws_the_images_of_leyden_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []

    def draw_samples(directory: Path, images: torch.Tensor, names: list[str]) -> None:
        drawn.append(images)

    monkeypatch.setattr(sample_grid, "draw_samples", draw_samples)
    small = ["--model.embed_dim=16", "--model.num_layers=2", "--model.num_samples=3", "--model.temperature=0.8"]
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=20"]
    assert main(["fit", "--config", str(PROJECT / "configs/imagegpt_digits.yaml"), *small, *short]) == 0
    (checkpoint,) = Path("runs").glob("*/*/checkpoints/best.ckpt")
    assert main(["predict", "--ckpt_path", str(checkpoint)]) == 0
    model = ImageGPT.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    write_decoder(model, CLASS_NAMES, Path("decoder.onnx"))
    assert np.array_equal(draw(), levels_in(drawn[-1], 3))
