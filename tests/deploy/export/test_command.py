"""`leyden export` leaves only files that answer as the checkpoint does in their own runtime."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import leyden as package
from leyden.cli.main import main
from leyden.data.digits import DigitsDataModule
from leyden.deploy import extras
from leyden.deploy.export import read_back
from leyden.models.conv_net import ConvNet

from ..stored import CLUSTERS, DIGITS, FUNCTION, GREY, pixels, store

EXPORT = ["export", "--ckpt_path", "model.ckpt"]
LINEAR = "leyden.models.linear_regression.LinearRegression"

IMAGE_GPT = "leyden.models.image_gpt.ImageGPT"
SMALL_GPT = {"input_shape": [1, 8, 8], "num_classes": 10, "embed_dim": 16, "num_layers": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(read_back, "SECONDS", 0.01)


def answers(file: Path | str, inputs: np.ndarray) -> np.ndarray:
    """What onnxruntime says, without anything of this project."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs})
    return np.asarray(outputs)


def expected(model: Any, x: torch.Tensor) -> np.ndarray:
    """The formula: digits are stored as 0 to 16, and normalised by their mean and standard deviation."""
    levels = (x.float() * 16 / 255).round()
    with torch.no_grad():
        probabilities: np.ndarray = model((levels / 16 - 0.3052) / 0.3252).softmax(dim=1).numpy()
    return probabilities


def test_onnx_is_the_default_and_a_new_directory_its_place(capfd: pytest.CaptureFixture[str]) -> None:
    _, model = store(arguments=GREY, data=DIGITS)
    assert main(EXPORT) == 0
    (file,) = Path("runs/stored").glob("*_export/model.onnx")
    images = pixels(9, (1, 28, 28))
    assert np.abs(answers(file, images) - expected(model, torch.from_numpy(images))).max() < 1e-5
    assert sorted(path.name for path in file.parent.iterdir()) == ["export.json", "model.onnx"]
    said = capfd.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == "from  model.ckpt, step 7"
    assert lines[2].startswith("model.onnx")
    assert lines[-1] == f"files  {file.parent}"
    assert max(map(len, lines)) <= 100


def test_the_figures_are_those_of_the_test(capfd: pytest.CaptureFixture[str]) -> None:
    _, model = store(arguments=GREY, data=DIGITS)
    assert main([*EXPORT, "--output", "out"]) == 0
    content = json.loads(Path("out/export.json").read_text())
    (figures,) = content["files"]
    data = DigitsDataModule()
    data.setup()
    x, y = data.test_set.__getitems__(list(range(360)))
    with torch.no_grad():
        right = model((x / 16 - 0.3052) / 0.3252).argmax(dim=1) == y
    assert figures["score"]["file"] == pytest.approx(100 * right.float().mean().item())
    assert figures["score"]["file"] == figures["score"]["eager"]
    assert figures["samples"] == 360
    assert figures["size"] == Path("out/model.onnx").stat().st_size
    assert [*figures["differences"]] == ["1", "2", "7", "256", "test"]
    assert max(figures["differences"].values()) < 1e-5
    assert figures["equal"] == 1
    assert min(*figures["latency_ms"].values(), *figures["throughput"].values()) > 0
    assert content["metadata"]["class_names"] == json.dumps([str(i) for i in range(10)])


def test_a_pt2_file_holds_its_metadata(capfd: pytest.CaptureFixture[str]) -> None:
    store(arguments=GREY, data=DIGITS)
    assert main([*EXPORT, "--format", "pt2", "--output", "out", "--samples", "20"]) == 0
    extra = {"license": "", "class_names": ""}
    program = torch.export.load("out/model.pt2", extra_files=extra).module()
    assert json.loads(extra["class_names"]) == [str(i) for i in range(10)]
    assert program(torch.zeros(3, 1, 28, 28, dtype=torch.uint8)).shape == (3, 10)
    assert capfd.readouterr().err == ""


def test_all_formats_are_made_at_once_with_the_same_metadata() -> None:
    _, model = store(arguments=GREY, data=DIGITS)
    assert main([*EXPORT, "--format", "all", "--output", "out", "--samples", "20", "--license", "CC0-1.0"]) == 0
    names = ["config.json", "export.json", "model.onnx", "model.pt2", "model.safetensors"]
    assert sorted(path.name for path in Path("out").iterdir()) == names
    figures = json.loads(Path("out/export.json").read_text())["files"]
    assert [part["file"] for part in figures] == ["model.onnx", "model.pt2", "model.safetensors"]
    metadata = onnxruntime.InferenceSession("out/model.onnx").get_modelmeta().custom_metadata_map
    of_program = dict.fromkeys(metadata, "")
    torch.export.load("out/model.pt2", extra_files=of_program)
    of_weights = json.loads(Path("out/config.json").read_text())["metadata"]
    assert metadata == of_program == of_weights
    assert metadata["license"] == "CC0-1.0"
    assert metadata["checkpoint_sha256"] == hashlib.sha256(Path("model.ckpt").read_bytes()).hexdigest()
    image = pixels(1, (1, 28, 28))
    prediction = package.load("out").predict(image[0, 0])
    assert [*prediction.probabilities.values()] == pytest.approx(expected(model, torch.from_numpy(image))[0].tolist())


NUMBERS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "values": (LINEAR, {"input_shape": [10], "out_features": 1}, FUNCTION),
    "probabilities": ("leyden.models.mlp.MLP", {"input_shape": [10], "num_classes": 10}, CLUSTERS),
}


@pytest.mark.parametrize("output", NUMBERS)
def test_models_of_numbers_take_float32(output: str) -> None:
    class_path, arguments, data = NUMBERS[output]
    _, model = store(class_path, arguments, data)
    assert main([*EXPORT, "--output", "out"]) == 0
    session = onnxruntime.InferenceSession("out/model.onnx")
    assert [(part.name, part.type) for part in session.get_inputs()] == [("inputs", "tensor(float)")]
    assert [part.name for part in session.get_outputs()] == [output]
    x = torch.randn(3, 10)
    with torch.no_grad():
        values = model(x) if output == "values" else model(x).softmax(dim=1)
    assert np.abs(answers("out/model.onnx", x.numpy()) - values.numpy()).max() < 1e-5


def test_int8_is_written_beside_it_and_compared() -> None:
    store(arguments=GREY, data=DIGITS)
    code = main([*EXPORT, "--int8", "--output", "out"])
    first, second = json.loads(Path("out/export.json").read_text())["files"]
    assert first["fault"] is None
    lower = second["score"]["eager"] - second["score"]["file"] > 0.3  # of random weights, which few points separate
    assert code == lower
    assert Path("out/model.int8.onnx").exists() != lower
    assert second["size"] < first["size"]


def test_the_decoder_of_an_image_gpt_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    store(IMAGE_GPT, SMALL_GPT, DIGITS | {"init_args": {"size": 8}})
    assert main([*EXPORT, "--output", "out", "--license", "MIT"]) == 0
    metadata = onnxruntime.InferenceSession("out/decoder.onnx").get_modelmeta().custom_metadata_map
    assert metadata["license"] == "MIT"
    assert json.loads(metadata["class_names"]) == [str(i) for i in range(10)]
    (figures,) = json.loads(Path("out/export.json").read_text())["files"]
    assert figures["differences"]["logits"] < 1e-4
    said = capfd.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[1].startswith("decoder.onnx  ")


class Different(nn.Module):
    """Answers differently in a file."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add a little while torch traces."""
        return x + 0.01 * torch.arange(10) if torch.compiler.is_exporting() else x


def test_a_file_that_answers_differently_is_not_left(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    store(arguments=GREY, data=DIGITS)
    forward = ConvNet.forward
    monkeypatch.setattr(ConvNet, "forward", lambda self, x: Different()(forward(self, x)))
    assert main([*EXPORT, "--output", "out"]) == 1
    assert [path.name for path in Path("out").iterdir()] == ["export.json"]
    (figures,) = json.loads(Path("out/export.json").read_text())["files"]
    assert figures["differences"]["7"] > 1e-4
    assert "error: model.onnx is not kept: its outputs differ by up to" in capfd.readouterr().err


def read_only() -> list[str]:
    store(arguments=GREY, data=DIGITS)
    Path("file").touch()
    return ["--output", "file/out"]


def with_options(*options: str, **changes: Any) -> Callable[[], list[str]]:
    def make() -> list[str]:
        store(**{"arguments": GREY, "data": DIGITS, **changes})
        return [*options]

    return make


REFUSED: dict[str, Callable[[], list[str]]] = {
    "no checkpoint at model.ckpt": list,
    "invalid choice: 'torchscript'": with_options("--format", "torchscript"),
    "cannot write to file/out": read_only,
    "--int8 makes an ONNX file": with_options("--int8", "--format", "pt2"),
    "--int8 is for classifiers": with_options(
        "--int8", class_path=LINEAR, arguments={"input_shape": [10], "out_features": 1}, data=FUNCTION
    ),
    "has no option `--formt`; did you mean `format`?": with_options("--formt=onnx"),
    "an ImageGPT is exported as the ONNX file of its decoder": with_options(
        "--format", "pt2", class_path=IMAGE_GPT, arguments=SMALL_GPT, data=DIGITS | {"init_args": {"size": 8}}
    ),
    "takes no --config": with_options("--config", "a.yaml"),
    "--samples is 0": with_options("--samples", "0"),
    "the checkpoint names no data": with_options(data=None),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_mistake_is_refused_in_one_line_and_nothing_is_written(
    reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options = REFUSED[reason]()
    before = sorted(Path().rglob("*"))
    assert main([*EXPORT, *options]) == 2
    said = capfd.readouterr()
    assert reason in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert sorted(Path().rglob("*")) == before


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    store(arguments=GREY, data=DIGITS)
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "onnxruntime" else name)
    assert main(EXPORT) == 2
    assert capfd.readouterr().err == 'error: leyden export needs onnxruntime: pip install "leyden[export]"\n'


def test_the_packages_are_imported_by_this_command_only() -> None:
    code = (
        "import sys, leyden.cli.main, leyden.deploy.load; "
        "print({'onnx', 'onnxruntime', 'onnxscript', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
