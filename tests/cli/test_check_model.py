"""The model is checked against the data before a run."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from leyden.cli.main import main
from leyden.data.digits import DigitsDataModule
from leyden.data.synthetic import SyntheticRegressionDataModule
from leyden.models.conv_net import ConvNet

from .refusals import CONFIGS, DIGITS
from .refusals import elsewhere as elsewhere
from .refusals import refused as refused

pytestmark = pytest.mark.usefixtures("elsewhere")
ONE_PIXEL = "--model PlainNet --model.pool torch.nn.Identity --model.kernel_size 1 --data.size 1 --data.augment null"


def test_labels_outside_of_the_classes_are_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_arrays = DigitsDataModule.load_arrays

    def one_too_many(self: DigitsDataModule) -> Any:
        (x, y), test = load_arrays(self)
        return (x, y + 1), test

    monkeypatch.setattr(DigitsDataModule, "load_arrays", one_too_many)
    line = refused("fit", "--config", DIGITS)
    assert "labels 0 to 10, but num_classes is 10" in line


def test_targets_that_the_loss_would_silently_broadcast_are_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_arrays = SyntheticRegressionDataModule.load_arrays
    flat = lambda self: tuple((x, y[:, 0]) for x, y in load_arrays(self))  # noqa: E731
    monkeypatch.setattr(SyntheticRegressionDataModule, "load_arrays", flat)
    line = refused("fit", "--config", str(CONFIGS / "linear_regression.yaml"))
    assert "the output is (2, 1), the target (2,)" in line


def test_more_classes_in_the_network_than_in_the_data_are_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = ConvNet.__init__

    def wide(self: ConvNet, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self.network.head = torch.nn.Linear(50, 11)

    monkeypatch.setattr(ConvNet, "__init__", wide)
    line = refused("fit", "--config", DIGITS)
    assert "the network's output is (11,), the target wants (10,)" in line


def test_a_batch_of_one_is_no_matter_where_it_is_dropped_or_never_reached() -> None:
    words = ["fit", "--config", DIGITS, *ONE_PIXEL.split(), "--data.batch_size", "12", "--trainer.max_epochs", "1"]
    assert main([*words, "--data.drop_last", "true"]) == 0
    assert main([*words, "--trainer.limit_train_batches", "2"]) == 0


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--config", DIGITS, "--model.loss", "torch.nn.MultiMarginLoss"], "ConvNet does not take a batch"),
        (["--config", str(CONFIGS / "imagegpt_digits.yaml")], "ImageGPT does not take a batch"),
    ],
    ids=["a loss of labels", "a model of labels"],
)
def test_a_loss_or_a_model_that_takes_labels_only_is_refused_where_labels_are_mixed(
    flags: list[str], reason: str, refused: Callable[..., str]
) -> None:
    line = refused("fit", *flags, "--data.mix", "Mixup")
    assert reason in line
    assert "data.mix gives probabilities (B, C) as targets" in line
