"""Transfer learning against plain torchvision networks, and against what frozen means."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models
from torchvision.transforms import functional as transforms

from leyden.data.datamodules import Batch, ImageDataModule
from leyden.errors import UserError
from leyden.models.backbones import build_backbone, load_weights
from leyden.models.tasks import NetworkClassifier
from leyden.models.transfer import TransferClassifier

SMALL = "shufflenet_v2_x0_5"  # 342 000 parameters, with batch-norm; its last layer is `fc`
FAMILIES = [SMALL, "alexnet", "convnext_tiny", "googlenet", "inception_v3", "resnet50", "squeezenet1_0", "vit_b_16"]


def make(**options: Any) -> TransferClassifier:
    sizes = {"input_shape": (3, 32, 32), "num_classes": 4, "image_size": 32}
    return TransferClassifier(**{"backbone": SMALL, **sizes, **options})


def images() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8) % 4
    return DataLoader(TensorDataset(x, y), batch_size=4)  # two steps an epoch


def trainer(epochs: int = 1, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**{"max_epochs": epochs, "enable_checkpointing": False, "accelerator": "cpu", **quiet, **options})


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not tensor.equal(before[name])}


def official(backbone: str = SMALL) -> nn.Module:
    """The network as torchvision builds it, with batch-norm statistics that are not those of a new one."""
    torch.manual_seed(7)
    network: nn.Module = models.get_model(backbone, weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
    return network.eval()


def test_it_is_the_documented_network_on_resized_images() -> None:
    reference = official("resnet18")
    model = make(backbone="resnet18", image_size=48).eval()
    model.backbone.load_state_dict({k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")})
    reference.fc = nn.Identity()
    x = torch.randn(2, 3, 32, 32)
    features = reference(transforms.resize(x, [48, 48], antialias=True))
    w = dict(model.network.head.named_parameters())  # type: ignore[union-attr]
    hidden = F.relu(features @ w["hidden.weight"].T + w["hidden.bias"])
    torch.testing.assert_close(model(x), hidden @ w["head.weight"].T + w["head.bias"])
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 512 * 256 + 256 + 256 * 4 + 4
    assert sum(p.numel() for p in model.backbone.parameters()) == 11_689_512 - 512 * 1000 - 1000  # as published


def test_dropout_of_a_half_precedes_the_last_layer() -> None:
    head = make().train().network.head
    assert isinstance(head, nn.Sequential)
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert 0.45 < (head.dropout(torch.ones(4000)) == 0).float().mean().item() < 0.55  # type: ignore[operator]


def test_a_frozen_backbone_stays_as_it_is_while_the_head_learns() -> None:
    model = make()
    before = snapshot(model.network)
    run = trainer(2)
    run.fit(model, images(), images())  # with validation, after which Lightning restores the modes
    assert {name.split(".")[0] for name in changed(model.network, before)} == {"head"}  # batch-norm's buffers as well
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())
    held = {id(p) for group in run.optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in model.network.head.parameters()}  # type: ignore[union-attr]


def test_a_backbone_without_gradients_still_drifts_in_training_mode() -> None:
    model = make()
    before = snapshot(model.backbone)
    model.backbone.train()  # as a module's own `train` would
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    moved = {name.rpartition(".")[2] for name in changed(model.backbone, before)}
    assert moved == {"running_mean", "running_var", "num_batches_tracked"}


def test_batch_norm_that_is_not_frozen_learns_its_statistics() -> None:
    model = make(freeze=False)
    before = snapshot(model.backbone)
    trainer().fit(model, images())
    assert {"conv1.0.weight", "conv1.1.weight", "conv1.1.running_mean"} <= changed(model.backbone, before)


def test_a_frozen_backbone_stays_in_evaluation_mode_and_the_head_does_not() -> None:
    model = make(backbone="resnet18").eval().train()
    assert not any(module.training for module in model.backbone.modules())
    assert all(module.training for module in model.network.head.modules())  # type: ignore[union-attr]


def test_grey_images_count_as_three_equal_channels() -> None:
    model = make(input_shape=(1, 28, 28)).eval()
    x = torch.randn(2, 1, 28, 28)
    assert model(x).equal(model(x.repeat(1, 3, 1, 1)))


def test_the_image_size_is_what_named_weights_ask_for() -> None:
    assert make(backbone="efficientnet_b1", weights="IMAGENET1K_V2", image_size=None).image_size == 240
    assert make(image_size=None).image_size == 224


def as_state_dict(network: nn.Module, file: Path) -> None:
    torch.save(network.state_dict(), file)


def without_the_last_layer(network: nn.Module, file: Path) -> None:
    torch.save({k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}, file)


def without_counters(network: nn.Module, file: Path) -> None:
    torch.save({k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}, file)


def as_checkpoint_of_a_network(network: nn.Module, file: Path) -> None:
    run = trainer(0)
    run.fit(NetworkClassifier(network=network, input_shape=(3, 32, 32), num_classes=1000), images())
    run.save_checkpoint(file)


def as_checkpoint_of_a_transfer(network: nn.Module, file: Path) -> None:
    model = make(num_classes=3, freeze=False)
    model.backbone.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("fc.")})
    run = trainer(0)
    run.fit(model, images())
    run.save_checkpoint(file)


@pytest.mark.parametrize(
    "save",
    [as_state_dict, without_the_last_layer, without_counters, as_checkpoint_of_a_network, as_checkpoint_of_a_transfer],
)
def test_weights_are_taken_from_a_file(save: Callable[[nn.Module, Path], None], tmp_path: Path) -> None:
    network = official()
    save(network, tmp_path / "some.pth")
    model = make(weights=str(tmp_path / "some.pth"))
    trainer().fit(model, images())
    assert changed(model.backbone, network.state_dict()) == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv5.0.weight"), r"1 missing \(conv5.0.weight\)$"),
        (lambda state: state.update(extra=torch.ones(1)), r"1 unknown \(extra\)$"),
        (
            lambda state: state.update({"conv5.0.weight": torch.ones(2)}),
            r"1 of another shape \(conv5.0.weight 2 for 1024x192x1x1\)$",
        ),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_weights_that_do_not_fit_are_refused_by_name_and_not_loaded_in_part(
    change: Callable[[dict[str, Tensor]], Any], message: str, tmp_path: Path
) -> None:
    state = official().state_dict()
    change(state)
    torch.save(state, tmp_path / "some.pth")
    model = make(weights=str(tmp_path / "some.pth"))
    before = snapshot(model.network)
    with pytest.raises(UserError, match=f"some.pth do not fit {SMALL}: {message}"):
        trainer().fit(model, images())
    assert changed(model.network, before) == set()


def test_a_long_list_of_names_is_shortened(tmp_path: Path) -> None:
    as_state_dict(official("resnet18"), tmp_path / "some.pth")
    with pytest.raises(UserError, match=r"\d+ missing \(.*, \.\.\.\); \d+ unknown \(bn1.bias, .*, \.\.\.\)") as error:
        trainer().fit(make(weights=str(tmp_path / "some.pth")), images())
    assert len(str(error.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no weights", "is damaged or holds no weights"),
        (b"hi\n", "is damaged or holds no weights"),
        ([1, 2], "holds no state_dict"),
        ({"a": 1}, "no state_dict"),
    ],
)
def test_a_file_without_weights_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "some.pth"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(UserError, match=message):
        trainer().fit(make(weights=str(file)), images())


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"conv1.0.weight": Trap()}, tmp_path / "some.pth")
    with pytest.raises(UserError, match="is damaged or holds no weights"):
        trainer().fit(make(weights=str(tmp_path / "some.pth")), images())
    assert not (tmp_path / "sprung").exists()


def test_unknown_names_are_refused_with_the_right_ones() -> None:
    with pytest.raises(UserError, match="no classification network `resnet5O`; did you mean `resnet50`"):
        make(backbone="resnet5O")
    with pytest.raises(UserError, match="no weights IMAGENET1K_V3: resnet50 has IMAGENET1K_V1, IMAGENET1K_V2"):
        trainer().fit(make(backbone="resnet50", weights="IMAGENET1K_V3"), images())


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of downloaded weights, empty, and an address where nobody listens."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    weights = models.get_model_weights(SMALL)["IMAGENET1K_V1"]
    monkeypatch.setattr(weights.value, "url", "http://127.0.0.1:9/shufflenet.pth")
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_without_a_network_one_line_says_where_the_weights_belong(offline: Path) -> None:
    with pytest.raises(UserError) as error:
        trainer().fit(make(weights="IMAGENET1K_V1"), images())
    message = str(error.value)
    assert f"put http://127.0.0.1:9/shufflenet.pth into {offline}" in message
    assert "--model.weights FILE" in message
    assert "\n" not in message


def test_weights_that_are_there_need_no_network(offline: Path) -> None:
    offline.mkdir(parents=True)
    network = official()
    as_state_dict(network, offline / "shufflenet.pth")
    model = make(weights="IMAGENET1K_V1")
    trainer().fit(model, images())
    assert changed(model.backbone, network.state_dict()) == set()


def test_pretrained_is_deprecated_in_torchvision_and_still_accepted(offline: Path) -> None:
    offline.mkdir(parents=True)
    network = official()
    as_state_dict(network, offline / "shufflenet.pth")
    with pytest.warns(UserWarning, match="'pretrained' is deprecated") as warned:
        loaded = models.get_model(SMALL, pretrained=True)
    assert changed(loaded, network.state_dict()) == set()
    assert "weights=ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1" in " ".join(str(w.message) for w in warned)


class Colours(ImageDataModule):
    """Random colour images."""

    input_shape = (3, 32, 32)
    num_classes = 4

    def load_arrays(self) -> tuple[Batch, Batch]:
        batch = torch.randint(0, 256, (16, *self.input_shape), dtype=torch.uint8), torch.arange(16) % 4
        return batch, batch


@pytest.mark.parametrize("wrong", [{}, {"mean": 0.5}, {"std": [0.229, 0.224, 0.2]}])
def test_named_weights_are_refused_for_images_that_are_normalised_otherwise(
    offline: Path, wrong: dict[str, Any]
) -> None:
    offline.mkdir(parents=True)
    as_state_dict(official(), offline / "shufflenet.pth")
    imagenet: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    message = re.escape(f"set --data.mean {imagenet['mean']} --data.std {imagenet['std']}")
    data = Colours(**{**imagenet, **wrong}, val_size=4, batch_size=4)
    with pytest.raises(UserError, match=message) if wrong else nullcontext():
        trainer().fit(make(weights="IMAGENET1K_V1"), datamodule=data)


def test_a_checkpoint_does_not_need_the_weights_again(tmp_path: Path) -> None:
    as_state_dict(official(), tmp_path / "some.pth")
    model, run = make(weights=str(tmp_path / "some.pth")), trainer()
    run.fit(model, images())
    run.save_checkpoint(tmp_path / "some.ckpt")
    (tmp_path / "some.pth").unlink()
    loaded = TransferClassifier.load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True)
    assert changed(loaded, model.state_dict()) == set()
    trainer().fit(loaded, images())  # nor when it is trained again
    resumed = make(weights=str(tmp_path / "some.pth"))
    trainer(2).fit(resumed, images(), ckpt_path=tmp_path / "some.ckpt", weights_only=True)
    for module in (loaded, resumed):
        assert changed(module.backbone, model.backbone.state_dict()) == set()


class OnMeta(TorchFunctionMode):
    """Parameters without memory; `torch.device("meta")` would also catch the sums that RegNet's plan is made of."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}) | ({"device": "meta"} if func is torch.empty else {}))


def test_the_older_names_in_the_official_files_of_densenet_fit(tmp_path: Path) -> None:
    network = official("densenet121")
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", k): v for k, v in network.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "some.pth")
    backbone, _ = build_backbone("densenet121", 224)
    load_weights(backbone, str(tmp_path / "some.pth"), "densenet121")
    assert changed(backbone, network.state_dict()) == set()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # nothing is copied to meta
def test_the_further_outputs_in_the_official_file_of_googlenet_are_left_out(tmp_path: Path) -> None:
    with OnMeta():
        network, (backbone, _) = official("googlenet"), build_backbone("googlenet", 224)
    assert any(name.startswith("aux1.") for name in network.state_dict())
    torch.save(network.state_dict(), tmp_path / "some.pth")
    load_weights(backbone.to("meta"), str(tmp_path / "some.pth"), "googlenet")


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "backbone",
    [
        name if name in FAMILIES else pytest.param(name, marks=pytest.mark.slow)
        for name in models.list_models(module=models)
    ],
)
def test_every_classification_network_of_torchvision_gets_a_head_or_is_refused(backbone: str) -> None:
    weights = models.get_model_weights(backbone).DEFAULT.name  # they say the image size
    options = {"backbone": backbone, "weights": weights, "image_size": None, "freeze": False}
    if backbone.startswith("squeezenet"):
        with pytest.raises(UserError, match="does not end in a linear layer"):
            make(**options)
        return
    with OnMeta():
        model = make(**options).to("meta").train()  # unfrozen, GoogLeNet and Inception would give several outputs
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 4)
