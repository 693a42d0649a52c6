"""Faster kernels compute the same, and leave no trace in a checkpoint."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from leyden.callbacks.acceleration import ChannelsLast, Compile
from leyden.data.digits import DigitsDataModule
from leyden.models.plain_net import PlainNet


class Orders(Callback):
    """Looks whether weights of several channels are in channels-last order at the end of each batch."""

    def __init__(self) -> None:
        self.seen: set[bool] = set()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        weight = pl_module.network.conv1_2.weight  # type: ignore[union-attr]
        self.seen.add(bool(weight.is_contiguous(memory_format=torch.channels_last)) and not weight.is_contiguous())


def train(tmp_path: Path, *callbacks: Callback) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = PlainNet(
        input_shape=(1, 8, 8),
        num_classes=10,
        channels=(4, 8),
        convs_per_stage=2,
        optimizer=partial(torch.optim.SGD, lr=0.1),
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=1,
        limit_train_batches=5,
        accelerator="cpu",
        enable_checkpointing=False,
        callbacks=[*callbacks],
        **quiet,
    )
    trainer.fit(model, DigitsDataModule(size=8))
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    loaded = PlainNet.load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True)
    return loaded.state_dict()


def test_channels_last_trains_to_the_same_weights(tmp_path: Path) -> None:
    plain, orders = train(tmp_path), Orders()
    arranged = train(tmp_path, ChannelsLast(), orders)
    assert orders.seen == {True}
    torch.testing.assert_close(arranged, plain, rtol=1e-4, atol=1e-5)


def test_compile_asks_torch_to_compile_the_network_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compile_nothing(function: Any, **options: Any) -> Any:
        asked.append((type(function.__self__).__name__, options))
        return function

    plain = train(tmp_path)
    monkeypatch.setattr(torch, "compile", compile_nothing)
    compiled = train(tmp_path, Compile(mode="max-autotune-no-cudagraphs"))
    assert asked == [("Sequential", {"mode": "max-autotune-no-cudagraphs"})]
    torch.testing.assert_close(compiled, plain, rtol=0, atol=0)


@pytest.mark.slow
def test_a_compiled_network_trains_to_the_same_weights(tmp_path: Path) -> None:
    torch.testing.assert_close(train(tmp_path, Compile()), train(tmp_path), rtol=1e-3, atol=1e-4)
