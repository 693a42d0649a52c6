"""Networks of torchvision and timm in `NetworkClassifier`: what trains can be tested from its checkpoint."""

from collections.abc import Iterator
from pathlib import Path

import jsonargparse
import pytest
import timm
import torch
from jsonargparse import Namespace
from torchvision import models

from leyden import PROJECT
from leyden.cli.cli import CLI
from leyden.cli.main import main
from leyden.errors import UserError
from leyden.runs.plain_config import plain_config
from leyden.security import ALLOWED_PACKAGES

pytestmark = pytest.mark.slow

CIFAR10 = str(PROJECT / "configs" / "conv_3x3_cifar10.yaml")
ONE_STEP = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
    "--data.batch_size=2",
    "--data.val_size=10",
    "--data.augment=null",
    "--model.optimizer=torch.optim.SGD",
    "--model.lr_scheduler=null",
]
TORCHVISION = {  # on images of 3 x 32 x 32; torchvision.models.X, its arguments
    "convnext_tiny": [],
    "densenet121": [],
    "efficientnet_b0": [],
    "mnasnet0_5": [],
    "mobilenet_v2": [],
    "mobilenet_v3_small": [],
    "regnet_y_400mf": [],
    "resnet18": [],
    "squeezenet1_1": [],
    "vit_b_16": ["--model.network.dict_kwargs.image_size=32"],
}
TIMM = {
    "timm.models.convmixer.ConvMixer": ["--model.network.dim=16", "--model.network.depth=2"],
    "timm.models.resnetv2.ResNetV2": ["--model.network.layers=[1, 1]", "--model.network.channels=[128, 256]"],
    "timm.models.vision_transformer.VisionTransformer": [
        "--model.network.img_size=32",
        "--model.network.depth=1",
        "--model.network.embed_dim=48",
    ],
    "timm.models.vgg.VGG": ["--model.network.cfg=[8, M, 16, M]"],
    "timm.models.xception.Xception": [],
}
# what jsonargparse builds itself although it is a function that builds layers, which the network wants
LAYERS_BY_FUNCTION = ("shufflenet", "swin")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def timm_allowed() -> Iterator[None]:
    jsonargparse.set_parsing_settings(import_path_allowlist=["timm"])  # calls add up, as a fork's line does
    yield
    jsonargparse.set_parsing_settings(import_path_allowlist=ALLOWED_PACKAGES)


def train_and_test(network: str, words: list[str], root: Path) -> None:
    data = ["--data.root", str(root), "--name", "network"]
    fit = ["fit", "--config", CIFAR10, "--model=NetworkClassifier", f"--model.network={network}", *words]
    assert main([*fit, *ONE_STEP, *data]) == 0
    (run,) = Path("runs/network").iterdir()
    assert "Unable to serialize" not in (run / "config.yaml").read_text()
    assert main(["test", "--ckpt_path", "best", *data[:2]]) == 0


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_network_of_torchvision_trains_and_is_tested_from_its_checkpoint(name: str, cifar10_root: Path) -> None:
    words = ["--model.network.dict_kwargs.num_classes=10", *TORCHVISION[name]]
    train_and_test(f"torchvision.models.{name}", words, cifar10_root)


@pytest.mark.usefixtures("timm_allowed")
@pytest.mark.parametrize("name", TIMM)
def test_a_network_of_timm_trains_and_is_tested_from_its_checkpoint(name: str, cifar10_root: Path) -> None:
    assert timm.__version__
    train_and_test(name, ["--model.network.num_classes=10", *TIMM[name]], cifar10_root)


class ParsedError(Exception):
    """Ends a command when its configuration has been parsed, written and read again."""


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_classification_network_of_torchvision_reads_back_or_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(self: CLI) -> None:
        parser, config = self._parser(self.subcommand), self.config[self.subcommand]
        again = parser.parse_object(plain_config(parser, config))
        wanted, read = (value.model.init_args.network for value in (config, again))
        assert wanted.class_path == read.class_path == f"torchvision.models.{name}"
        assert plain(wanted.init_args) == plain(read.init_args)
        raise ParsedError

    monkeypatch.setattr(CLI, "instantiate_classes", parsed)
    words = [f"--model.network=torchvision.models.{name}", "--model.network.dict_kwargs.num_classes=10"]
    with pytest.raises((ParsedError, UserError)) as raised:
        CLI(["fit", "--config", CIFAR10, "--model=NetworkClassifier", *words])
    assert isinstance(raised.value, ParsedError) or name.startswith(LAYERS_BY_FUNCTION)


def plain(config: Namespace) -> dict[str, str]:
    """What is compared of a network's arguments: functions and partials by what they call."""
    return {name: str(value) for name, value in config.as_dict().items()}


def test_a_network_of_several_outputs_is_refused(cifar10_root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["fit", "--config", CIFAR10, "--data.root", str(cifar10_root), *ONE_STEP]
    words += ["--model=NetworkClassifier", "--model.network=torchvision.models.googlenet"]
    words += ["--model.network.dict_kwargs.num_classes=10", "--model.network.dict_kwargs.init_weights=false"]
    assert main(words) == 2
    assert "returns GoogLeNetOutputs, but must return one tensor" in capfd.readouterr().err
    assert main([*words, "--model.network.dict_kwargs.aux_logits=false"]) == 0
    assert torch.load(next(Path("runs").rglob("best.ckpt")), weights_only=True)["global_step"] == 1
