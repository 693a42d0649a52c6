"""Every documented activation is a flag away in every network that has an `activation`."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from leyden import PROJECT
from leyden.cli.main import main

FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "Sigmoid": lambda x: 1 / (1 + math.e**-x),
    "Tanh": lambda x: (math.e**x - math.e**-x) / (math.e**x + math.e**-x),
    "ReLU": lambda x: x * (x > 0),
    "Softmax": lambda x: math.e**x / (math.e**x).sum(dim=1, keepdim=True),
    "LeakyReLU": lambda x: torch.where(x > 0, x, 0.01 * x),
    "ELU": lambda x: torch.where(x > 0, x, math.e**x - 1),
    "PReLU": lambda x: torch.where(x > 0, x, 0.25 * x),  # a slope that is learned, from 1/4
    "Mish": lambda x: x * torch.tanh(torch.log(1 + math.e**x)),
}
ARGUMENTS = {"Softmax": {"dim": 1}}  # over the features, or the channels: not over the batch
CONVNET = ["--config", str(PROJECT / "configs" / "convnet_digits.yaml")]
MLP = ["--model", "MLP", "--data", "DigitsDataModule"]
PLAIN_NET = ["--model", "PlainNet", "--data", "DigitsDataModule"]


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_is_its_written_formula(name: str) -> None:
    x = 3 * torch.randn(4, 6, 2)
    module = getattr(nn, name)(**ARGUMENTS.get(name, {}))
    torch.testing.assert_close(module(x), FORMULAS[name](x))


@pytest.mark.parametrize(
    ("experiment", "name"),
    [(experiment, name) for experiment in (CONVNET, MLP) for name in FORMULAS] + [(PLAIN_NET, "Softmax")],
    ids=lambda value: value if isinstance(value, str) else Path(value[1]).stem,
)
def test_a_flag_changes_the_activation(
    experiment: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--model.activation", f"torch.nn.{name}"]
    flags += [f"--model.activation.{key}={value}" for key, value in ARGUMENTS.get(name, {}).items()]
    fast = ["--trainer.max_steps", "1", "--test_after_fit", "false"]
    fast += ["--trainer.enable_model_summary", "false", "--trainer.logger", "false"]
    fast += ["--trainer.limit_val_batches", "1", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", *experiment, *flags, *fast]) == 0
    (file,) = tmp_path.glob("runs/*/*/checkpoints/last.ckpt")
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["global_step"] == 1
    assert checkpoint["hyper_parameters"]["activation"]["class_path"] == f"torch.nn.{name}"
