"""A checkpoint is enough to load a model with its preprocessing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

import leyden
from leyden.checkpoints.io import read_checkpoint
from leyden.data.digits import DigitsDataModule
from leyden.deploy.load import make_predictor
from leyden.errors import UserError
from leyden.models.conv_net import ConvNet

from .stored import CIFAR10, COLOURED, DIGITS, GREY, pixels, store


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_directory_a_file_and_best_are_loaded_and_nothing_is_written() -> None:
    file, _ = store()
    run = Path("runs/stored/2026-01-01_00-00-00")
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("")
    file.rename(run / "checkpoints" / "best.ckpt")
    before = sorted(Path().rglob("*"))
    image = pixels(1)[0].transpose(1, 2, 0)
    answers = [leyden.load(path).predict(image) for path in ("best", run, f"{run}/checkpoints/best.ckpt")]
    assert answers == [answers[0]] * 3
    assert sorted(Path().rglob("*")) == before


class Foreign(LightningModule):
    """A module of someone else."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)


def of_python() -> None:
    """A checkpoint that a Trainer writes in Python."""
    model = ConvNet(input_shape=(1, 28, 28), num_classes=10)
    trainer = Trainer(max_steps=1, logger=False, enable_progress_bar=False, limit_val_batches=0, barebones=False)
    trainer.fit(model, DigitsDataModule())
    trainer.save_checkpoint("model.ckpt")


def of_a_foreign_module() -> None:
    hparams = {"_class_path": f"{__name__}.Foreign"}
    torch.save({"state_dict": Foreign().state_dict(), "hyper_parameters": hparams}, "model.ckpt")


IMAGE_GPT = {"input_shape": [1, 28, 28], "num_classes": 10, "pool": 4, "embed_dim": 8}
ELSEWHERE = {"class_path": "os.system", "init_args": {}}
REFUSED = {
    "no checkpoint at nowhere.ckpt": lambda: None,
    "is damaged or is no checkpoint": lambda: Path("model.ckpt").write_text("no checkpoint"),
    "does not name its model and data": of_python,
    "model.ckpt does not name its model": of_a_foreign_module,
    "ImageGPT predicts neither classes nor values": lambda: store(
        "leyden.models.image_gpt.ImageGPT", IMAGE_GPT, DIGITS
    ),
    "cannot be constructed .*os.system": lambda: store(data=ELSEWHERE),
    "cannot be constructed .*torch.nn.ReLU": lambda: store(
        hyper_parameters={"_class_path": "torch.nn.ReLU", **COLOURED}
    ),
    "cannot be constructed .*there_is_none": lambda: store(
        data={"class_path": "leyden.data.there_is_none", "init_args": {}}
    ),
    "cannot be constructed .*size mismatch": lambda: store(
        state_dict={name: value[:1] for name, value in ConvNet(**GREY).state_dict().items()}
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_loaded_is_refused_in_one_line(reason: str) -> None:
    REFUSED[reason]()
    with pytest.raises(UserError, match=reason) as refused:
        leyden.load("nowhere.ckpt" if "nowhere" in reason else "model.ckpt")
    assert "\n" not in str(refused.value)


def test_a_checkpoint_runs_no_code_of_packages_that_are_not_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("evil.py").write_text("from pathlib import Path; Path('canary').touch()")
    monkeypatch.syspath_prepend(tmp_path)
    for changes in ({"data": {"class_path": "evil.Data"}}, {"hyper_parameters": {"_class_path": "evil.Model"}}):
        arguments: dict[str, Any] = changes
        file, _ = store(**arguments)
        with pytest.raises(UserError, match="evil"):
            leyden.load(file)
    assert not Path("canary").exists()


def test_the_environment_cannot_let_a_checkpoint_run_code(monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = store()
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(UserError, match="unset TORCH_FORCE"):
        leyden.load(file)


def test_averaged_weights_are_used_as_in_the_test() -> None:
    image = pixels(1)[0].transpose(1, 2, 0)
    file, model = store()
    expected = leyden.load(file).predict(image)
    last = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
    file, _ = store(averaging_state={}, current_model_state=last)  # as WeightAveraging saves them
    assert leyden.load(file).predict(image) == expected


def test_no_pretrained_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> Any:
        raise AssertionError("weights were downloaded")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    weights = {"backbone": "resnet18", "weights": "IMAGENET1K_V1", "image_size": 32}
    file, model = store("leyden.models.transfer.TransferClassifier", COLOURED | weights)
    predictor = leyden.load(file)
    x = predictor.preprocess(list(pixels(2).transpose(0, 2, 3, 1)))
    with torch.no_grad():
        assert torch.equal(predictor.run(x)["probabilities"], model(x).softmax(dim=1))


def test_a_model_without_data_takes_numbers() -> None:
    file, model = store(data=None)
    predictor = leyden.load(file)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        classes = model(x).argmax(dim=1).tolist()
    assert [prediction.class_name for prediction in predictor.predict(x)] == [str(i) for i in classes]


def test_the_content_of_a_checkpoint_is_not_changed() -> None:
    crop = {"class_path": "leyden.data.transforms.RandomCrop", "init_args": {"padding": 2}}
    file, _ = store(data={"class_path": CIFAR10["class_path"], "init_args": {"augment": [crop]}})
    content = read_checkpoint(file)
    before = json.dumps(content["config"])
    make_predictor(file, content)
    assert json.dumps(content["config"]) == before


def test_leyden_has_load_and_nothing_else_that_it_lacks() -> None:
    code = "import leyden, sys; print('torch' in sys.modules); leyden.load; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        leyden.lode  # noqa: B018
