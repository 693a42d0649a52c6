"""A folder of config.json and model.safetensors is the model of the checkpoint."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import leyden
from leyden.checkpoints.io import read_checkpoint
from leyden.deploy.export.safetensors_file import MAX_BYTES, read_safetensors, write_safetensors
from leyden.errors import UserError

from ..stored import CIFAR10, CLUSTERS, COLOURED, CONVNET, DIGITS, FUNCTION, GREY, pixels, store

METADATA = {"class_names": '["no", "yes"]', "license": "CC0"}
TRANSFER = {"backbone": "resnet18", "weights": "IMAGENET1K_V1", "image_size": 32}
FOLDER = {
    "class_path": "leyden.data.image_folder.ImageFolderDataModule",
    "init_args": {"root": "nowhere", "classes": ["no", "Sí"], "image_size": 32, "mean": [0.4, 0.5, 0.6], "std": 0.1},
}
IMAGE_MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ConvNet": (CONVNET, COLOURED, CIFAR10),
    "digits": ("leyden.models.mlp.MLP", GREY, DIGITS),
    "own images": (CONVNET, {"input_shape": [3, 32, 32], "num_classes": 2}, FOLDER),
    "transfer": ("leyden.models.transfer.TransferClassifier", COLOURED | TRANSFER, CIFAR10),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write() -> Path:
    """The folder of `model.ckpt`."""
    folder = Path("exported")
    folder.mkdir(exist_ok=True)
    write_safetensors(read_checkpoint(Path("model.ckpt")), METADATA, folder)
    return folder


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_predictions_for_images_are_those_of_the_checkpoint_to_the_bit(name: str) -> None:
    class_path, arguments, data = IMAGE_MODELS[name]
    store(class_path, arguments, data)
    checkpoint, folder = leyden.load("model.ckpt"), leyden.load(write())
    images = list(pixels(3, tuple(arguments["input_shape"])).transpose(0, 2, 3, 1))
    assert folder.predict(images) == checkpoint.predict(images)
    assert (folder.reader, folder.class_names) == (checkpoint.reader, checkpoint.class_names)
    assert type(folder.model) is type(checkpoint.model)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_classes_and_the_precision_are_those_of_the_checkpoint(precision: str) -> None:
    _, model = store("leyden.models.recurrent.RecurrentClassifier", {**GREY, "rnn": torch.nn.GRU, "hidden_size": 8})
    content = torch.load("model.ckpt", weights_only=False)
    content["hyper_parameters"]["rnn"] = "torch.nn.GRU"
    content["config"] |= {"trainer": {"precision": precision}, "data": DIGITS}
    torch.save(content, "model.ckpt")
    checkpoint, folder = leyden.load("model.ckpt"), leyden.load(write())
    images = list(pixels(3, (28, 28, 1)))
    assert isinstance(model.network.rnn, torch.nn.GRU)
    assert folder.predict(images) == checkpoint.predict(images)
    assert folder.half is checkpoint.half is (torch.bfloat16 if precision == "bf16-mixed" else None)


@pytest.mark.parametrize(
    ("class_path", "arguments", "data"),
    [
        ("leyden.models.mlp.MLP", {"input_shape": [16], "num_classes": 5}, CLUSTERS),
        ("leyden.models.linear_regression.LinearRegression", {"input_shape": [1], "out_features": 1}, FUNCTION),
    ],
)
def test_models_of_numbers_are_rebuilt_too(class_path: str, arguments: dict[str, Any], data: dict[str, Any]) -> None:
    store(class_path, arguments, data)
    numbers = np.random.default_rng(0).normal(size=(3, *arguments["input_shape"]))
    assert leyden.load(write()).predict(numbers) == leyden.load("model.ckpt").predict(numbers)


def test_tied_weights_are_written_and_an_image_gpt_is_refused_as_its_checkpoint_is() -> None:
    arguments = {"input_shape": [1, 28, 28], "num_classes": 10, "pool": 4, "embed_dim": 8}
    _, model = store("leyden.models.image_gpt.ImageGPT", arguments, DIGITS)
    weights = read_safetensors(write())["state_dict"]
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())
    with pytest.raises(UserError, match="ImageGPT predicts neither classes nor values"):
        leyden.load("exported")


def test_the_files_say_what_they_are() -> None:
    store()
    folder = write()
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert described["metadata"] == METADATA
    assert described["hyper_parameters"]["_class_path"] == CONVNET
    assert described["config"]["data"] == CIFAR10
    with safe_open(folder / "model.safetensors", "pt") as file:  # the library's own reader
        assert {*file.keys()} == {*torch.load("model.ckpt")["state_dict"]}
        assert file.metadata() == {"format": "pt"}
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_checkpoint_without_a_model_or_with_values_that_are_no_json_is_refused() -> None:
    store(config=None)
    with pytest.raises(UserError, match="does not name its model"):
        write()
    store()
    content = torch.load("model.ckpt")
    content["hyper_parameters"]["weight"] = torch.ones(2)
    torch.save(content, "model.ckpt")
    with pytest.raises(UserError, match="cannot be written as JSON"):
        write()
    assert not [*Path("exported").iterdir()]


def edited(change: Callable[[dict[str, Any]], Any]) -> Callable[[], None]:
    """Changes config.json."""

    def edit() -> None:
        file = Path("exported/config.json")
        described = json.loads(file.read_text())
        change(described)
        file.write_text(json.dumps(described))

    return edit


def cut(name: str, length: int) -> None:
    file = Path("exported", name)
    file.write_bytes(file.read_bytes()[:length])


def flipped() -> None:
    content = bytearray(Path("exported/model.safetensors").read_bytes())
    content[-1] ^= 1
    Path("exported/model.safetensors").write_bytes(content)


def foreign_weights(content: bytes) -> Callable[[], None]:
    """Weights with the right checksum that are none."""

    def replace() -> None:
        Path("exported/model.safetensors").write_bytes(content)
        edited(lambda described: described.update(weights_sha256=hashlib.sha256(content).hexdigest()))()

    return replace


EVIL = {"class_path": "evil.Data", "init_args": {}}
REFUSED: dict[str, Callable[[], Any]] = {
    "cannot read .*model.safetensors .No such file": lambda: Path("exported/model.safetensors").unlink(),
    "model.safetensors is damaged": flipped,
    "model.safetensors is damaged.?": lambda: cut("model.safetensors", 1000),
    "no model of `leyden export`: Expecting|Unterminated": lambda: cut("config.json", 300),
    "no model of `leyden export`": lambda: Path("exported/config.json").write_bytes(b"\xff\xfe\xfd"),
    "recursion": lambda: Path("exported/config.json").write_text("[" * 10**6),
    "more than 16 MB": lambda: Path("exported/config.json").write_text(" " * (MAX_BYTES + 1)),
    "has no hyper_parameters": lambda: Path("exported/config.json").write_text("[]"),
    "no model of `leyden export`.*(h|H)eader": foreign_weights(b"\xff" * 100),
    "no model of `leyden export`.*(h|H)eader.?": foreign_weights(b""),
    "cannot be constructed .*Missing key": foreign_weights((2).to_bytes(8, "little") + b"{}"),
    "has no trainer": edited(lambda described: described["config"].update(trainer="fast")),
    "has no data": edited(lambda described: described["config"].update(data=[1])),
    "has no pytorch-lightning_version": edited(lambda described: described.update({"pytorch-lightning_version": 2})),
    "cannot be constructed .*evil": edited(lambda described: described["config"].update(data=EVIL)),
    "cannot be constructed .*evil.Model": edited(
        lambda described: described["hyper_parameters"].update(_class_path="evil.Model")
    ),
    "cannot be constructed .*os.system": edited(
        lambda described: described["hyper_parameters"].update(_instantiator="os.system")
    ),
    "does not name its model": edited(lambda described: described["hyper_parameters"].pop("_class_path")),
    "cannot be constructed": edited(lambda described: described["hyper_parameters"].update(num_classes=10**12)),
    "cannot be constructed .*size mismatch": edited(
        lambda described: described["hyper_parameters"].update(num_classes=3)
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_hostile_or_damaged_folder_is_refused_in_one_line_and_runs_nothing(
    reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("evil.py").write_text("from pathlib import Path; Path('canary').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    store()
    write()
    REFUSED[reason]()
    with pytest.raises(UserError, match=reason) as refused:
        leyden.load("exported")
    assert len(str(refused.value).splitlines()) == 1
    assert not Path("canary").exists()
