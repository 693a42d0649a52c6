"""Hyper-parameters of a checkpoint as plain data."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.models.mlp import MLP
from leyden.models.tasks import Classifier, NetworkClassifier


def trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**{"max_epochs": 1, "enable_checkpointing": False, "accelerator": "cpu", **quiet, **options})


def vectors() -> SyntheticClustersDataModule:
    return SyntheticClustersDataModule(num_samples=300, val_size=100, batch_size=64)  # 64 + 36: an uneven last batch


@pytest.mark.parametrize(
    ("model", "again"),
    [
        (MLP(input_shape=(10,), num_classes=10, hidden_sizes=(7, 5), activation=nn.Tanh), {}),
        (MLP(input_shape=(10,), num_classes=10, activation=partial(nn.LeakyReLU, negative_slope=0.3)), {}),
        (
            NetworkClassifier(network=nn.Linear(10, 10), input_shape=(10,), num_classes=10),
            {"network": nn.Linear(10, 10)},  # a whole module has to be given again
        ),
    ],
    ids=["class", "partial", "module"],
)
def test_a_python_run_reloads_with_weights_only(model: Classifier, again: dict[str, nn.Module], tmp_path: Path) -> None:
    run = trainer(max_steps=1)
    run.fit(model, vectors())
    run.save_checkpoint(tmp_path / "some.ckpt")
    loaded = type(model).load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True, **again)
    x = torch.randn(5, 10)
    assert torch.equal(loaded(x), model(x))
