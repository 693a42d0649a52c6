"""Fine-tuning: what is trained when, and at which rate."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from leyden.callbacks.finetuning import Finetuning
from leyden.errors import UserError
from leyden.models.attention import AttentionClassifier
from leyden.models.conv_net import ConvNet
from leyden.models.mlp import MLP
from leyden.models.plain_net import PlainNet
from leyden.models.recurrent import RecurrentClassifier
from leyden.models.res_net import ResNet
from leyden.models.tasks import Classifier, NetworkClassifier
from leyden.models.transfer import TransferClassifier


def make(**options: Any) -> TransferClassifier:
    return TransferClassifier("resnet18", image_size=32, input_shape=(3, 32, 32), num_classes=4, **options)


def small(**options: Any) -> ResNet:
    model = ResNet(widths=(4, 8), blocks_per_stage=1, input_shape=(3, 32, 32), num_classes=4, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # the last one of a block is zero at first, and so are the gradients before it
    return model


def images() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(8, 3, 32, 32), torch.arange(8) % 4), batch_size=4)


def trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(enable_checkpointing=False, accelerator="cpu", **quiet, **options)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not tensor.equal(before[name])}


class Recorder(Finetuning):
    """Notes which tensors of the backbone each epoch changed, and the two rates."""

    def __init__(self) -> None:
        super().__init__(unfreeze_backbone_at_epoch=1, backbone_initial_ratio_lr=0.1)
        self.changed: list[set[str]] = []
        self.rates: list[list[float]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self.before = snapshot(pl_module.backbone)
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.changed.append(changed(pl_module.backbone, self.before))


@pytest.mark.parametrize("make", [make, partial(make, freeze=False), small])
def test_the_backbone_is_trained_later_and_slower_also_after_a_resume(
    make: Callable[..., Classifier], tmp_path: Path
) -> None:
    sgd = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
    model, recorder = make(optimizer=sgd), Recorder()
    run = trainer(max_epochs=2, callbacks=[recorder])
    run.fit(model, images())
    assert recorder.changed == [set(), {name for name, _ in model.backbone.named_parameters()}]  # no statistics
    assert recorder.rates == [[0.01], [0.01, pytest.approx(0.001)]]

    run.save_checkpoint(tmp_path / "some.ckpt")
    model, resumed = make(optimizer=sgd), Recorder()
    run = trainer(max_epochs=3, callbacks=[resumed])
    run.fit(model, images(), ckpt_path=tmp_path / "some.ckpt", weights_only=True)
    assert resumed.changed == recorder.changed[1:]
    assert resumed.rates == recorder.rates[1:]


@pytest.mark.parametrize("cls", [ConvNet, MLP, PlainNet, ResNet, AttentionClassifier])
def test_the_backbone_of_a_sequential_network_is_all_but_its_head(cls: type[Classifier]) -> None:
    model = cls(input_shape=(3, 32, 32), num_classes=4).eval()
    x = torch.randn(2, 3, 32, 32)
    head = model.network.get_submodule("head")
    assert head(model.backbone(x)).equal(model(x))
    held = {id(p) for p in [*model.backbone.parameters(), *head.parameters()]}
    assert held == {id(p) for p in model.parameters()}
    assert not [name for name in model.state_dict() if "backbone" in name]


class Split(Classifier):
    """A model with a backbone of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))  # type: ignore[misc]
        self.head = nn.Linear(5, self.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(x))
        return logits


def test_a_model_may_have_a_backbone_of_its_own() -> None:
    model = Split(input_shape=(3, 32, 32), num_classes=4)
    before = snapshot(model)
    trainer(max_epochs=1, callbacks=[Finetuning(unfreeze_backbone_at_epoch=1)]).fit(model, images())
    assert changed(model, before) == {"head.weight", "head.bias"}


def test_it_is_refused_where_it_would_fail_late_or_in_silence() -> None:
    flat_at_the_end = nn.Sequential(nn.Conv2d(3, 4, 32), nn.Flatten())
    schedule = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=None)
    for model, options, reason in [
        (RecurrentClassifier(input_shape=(3, 32, 32), num_classes=4), {}, "RecurrentClassifier has not both"),
        (MLP(hidden_sizes=[], input_shape=(3, 32, 32), num_classes=4), {}, "MLP has not both"),
        (NetworkClassifier(flat_at_the_end, input_shape=(3, 32, 32), num_classes=4), {}, "has not both"),
        (make(lr_scheduler=schedule, lr_interval="step"), {}, "beside a schedule by step"),
        (make(), {"devices": 2, "strategy": "ddp"}, "in one process only"),
    ]:
        callback = Finetuning()
        with pytest.raises(UserError, match=reason):
            callback.setup(trainer(**options), model, "fit")
