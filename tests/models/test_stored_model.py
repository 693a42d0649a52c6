"""The weights that a model starts from, against those of their source."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

from leyden import PROJECT
from leyden.cli.main import main
from leyden.errors import UserError
from leyden.models.attention import AttentionClassifier
from leyden.models.conv_net import ConvNet
from leyden.models.image_gpt import ImageGPT
from leyden.models.linear_regression import LinearRegression
from leyden.models.mlp import MLP
from leyden.models.plain_net import PlainNet
from leyden.models.recurrent import RecurrentClassifier
from leyden.models.res_net import ResNet
from leyden.models.task import Task
from leyden.models.tasks import NetworkClassifier
from leyden.models.transfer import TransferClassifier
from leyden.models.two_layer_regression import TwoLayerRegression

from ..checkpoints.conftest import truncated, with_a_flipped_bit
from ..checkpoints.test_kills import FIT, MOMENTS
from ..processes import Server, result, run_of

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
FINETUNE = str(PROJECT / "configs" / "with" / "finetune.yaml")
SHORT = [
    *("fit", "--config", DIGITS, "--trainer.max_epochs=1", "--test_after_fit=false"),
    *("--trainer.limit_train_batches=2", "--trainer.limit_val_batches=2"),
]
STILL = "--model.optimizer.lr=0.0"
RESNET = ["--model=ResNet", "--model.widths=[4,8]", "--model.blocks_per_stage=1"]
Save = Callable[[Task, Path], None]


def make(seed: int = 0, cls: type[Task] = ConvNet, **options: Any) -> Any:
    torch.manual_seed(seed)
    return cls(**{"input_shape": (1, 28, 28), "num_classes": 10, **options})


def state_of(file: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(file, weights_only=True)["state_dict"]
    return state


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The tensors that are not equal; all have the same names."""
    assert list(before) == list(after)
    return {name for name in before if not before[name].equal(after[name])}


def trainer(epochs: int = 1, **options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**{"max_epochs": epochs, "enable_checkpointing": False, "accelerator": "cpu", **quiet, **options})


def images() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(8, 1, 28, 28), torch.arange(8) % 4), batch_size=4)


# --- what is loaded -----------------------------------------------------------------------------------------------


def as_state_dict(model: Task, file: Path) -> None:
    torch.save(model.state_dict(), file)


def of_the_network(model: Task, file: Path) -> None:
    torch.save(model.network.state_dict(), file)


def of_the_compiled_network(model: Task, file: Path) -> None:
    torch.save(torch.compile(model.network).state_dict(), file)


def wrapped(model: Task, file: Path) -> None:
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, file)


def in_half_precision(model: Task, file: Path) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())
    torch.save({name: weight.bfloat16() for name, weight in model.state_dict().items()}, file)


def as_checkpoint(model: Task, file: Path) -> None:
    run = trainer(0)
    run.fit(model, images())
    run.save_checkpoint(file)


@pytest.mark.parametrize(
    "save", [as_state_dict, of_the_network, of_the_compiled_network, wrapped, in_half_precision, as_checkpoint]
)
def test_all_weights_are_those_of_the_file(save: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, file = make(1), tmp_path / "some.pt"
    save(source, file)
    model = make(init_from=str(file), optimizer=partial(torch.optim.SGD, lr=0.0))
    trainer().fit(model, images())
    assert changed(source.state_dict(), model.state_dict()) == set()
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert capsys.readouterr().out == f"init  {file}, 8 of 8 tensors\n"


def network_of_torchvision(num_classes: int, **options: Any) -> NetworkClassifier:
    network = models.get_model("shufflenet_v2_x0_5", num_classes=num_classes)
    return NetworkClassifier(network=network, num_classes=num_classes, **options)


def regression(cls: type[Task], num_classes: int, **options: Any) -> Task:
    return cls(out_features=num_classes, **options)


@pytest.mark.parametrize(
    ("build", "head"),
    [
        (ConvNet, "head"),
        (MLP, "head"),
        (PlainNet, "head"),
        (partial(ResNet, widths=(4, 8), blocks_per_stage=1), "head"),
        (partial(AttentionClassifier, embed_dim=8, num_heads=2, num_layers=1), "head"),
        (partial(RecurrentClassifier, hidden_size=5), "head"),
        (partial(TransferClassifier, backbone="shufflenet_v2_x0_5", image_size=32), "head.head"),
        (network_of_torchvision, "fc"),
        (partial(regression, LinearRegression), "1"),
        (partial(regression, TwoLayerRegression), "head"),
    ],
)
def test_every_model_takes_all_but_a_head_of_another_size(
    build: Callable[..., Task], head: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"input_shape": (1, 28, 28)}
    torch.manual_seed(1)
    source = build(num_classes=5, **sizes)
    as_state_dict(source, tmp_path / "some.pt")
    torch.manual_seed(0)
    model = build(num_classes=7, **sizes, init_from=str(tmp_path / "some.pt"))
    fresh = model.state_dict()[f"network.{head}.weight"].clone()
    random = torch.get_rng_state()
    model.load_initial_weights()
    assert torch.get_rng_state().equal(random)
    before, after = source.state_dict(), model.state_dict()
    assert changed(before, after) == {f"network.{head}.weight", f"network.{head}.bias"}
    assert after[f"network.{head}.weight"].equal(fresh)
    count = f"{len(after) - 2} of {len(after)} tensors"
    assert capsys.readouterr().out == f"init  {tmp_path / 'some.pt'}, {count}; {head}: 5 -> 7, new\n"


def test_a_new_head_has_the_weights_that_it_has_without_another_file(tmp_path: Path) -> None:
    as_state_dict(make(1, num_classes=5), tmp_path / "some.pt")
    plain, model = make(), make(init_from=str(tmp_path / "some.pt"))
    model.load_initial_weights()
    same = set(plain.state_dict()) - changed(plain.state_dict(), model.state_dict())
    assert same == {"network.head.weight", "network.head.bias"}


def test_the_weights_of_a_loss_are_not_read(tmp_path: Path) -> None:
    loss = partial(nn.CrossEntropyLoss, weight=torch.arange(1.0, 11.0))
    source = make(1, loss=loss)
    assert "loss_function.weight" in source.state_dict()
    as_state_dict(source, tmp_path / "some.pt")
    model = make(init_from=str(tmp_path / "some.pt"))
    model.load_initial_weights()
    assert changed(source.network.state_dict(), model.network.state_dict()) == set()
    other = make(init_from=str(tmp_path / "some.pt"), loss=partial(nn.CrossEntropyLoss, weight=torch.ones(10)))
    other.load_initial_weights()
    assert other.state_dict()["loss_function.weight"].equal(torch.ones(10))


def test_a_transfer_takes_its_backbone_from_the_file_and_downloads_nothing(tmp_path: Path) -> None:
    options: dict[str, Any] = {"cls": TransferClassifier, "backbone": "shufflenet_v2_x0_5", "image_size": 32}
    source = make(1, **options)
    as_state_dict(source, tmp_path / "some.pt")
    still = partial(torch.optim.SGD, lr=0.0)
    model = make(**options, weights="IMAGENET1K_V1", init_from=str(tmp_path / "some.pt"), optimizer=still)
    trainer().fit(model, images())
    assert changed(source.state_dict(), model.state_dict()) == set()


def test_a_checkpoint_does_not_need_the_file_again(tmp_path: Path) -> None:
    as_state_dict(make(1), tmp_path / "some.pt")
    model, run = make(init_from=str(tmp_path / "some.pt")), trainer()
    run.fit(model, images())
    run.save_checkpoint(tmp_path / "some.ckpt")
    (tmp_path / "some.pt").unlink()
    loaded = ConvNet.load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True)
    assert loaded.hparams["init_from"] == str(tmp_path / "some.pt")
    assert changed(loaded.state_dict(), model.state_dict()) == set()
    trainer().fit(loaded, images())  # nor when it is trained again
    resumed = make(init_from=str(tmp_path / "some.pt"))
    trainer(2).fit(resumed, images(), ckpt_path=tmp_path / "some.ckpt", weights_only=True)


# --- what is refused ----------------------------------------------------------------------------------------------

ATTENTION: dict[str, Any] = {"cls": AttentionClassifier, "embed_dim": 8, "num_heads": 2, "num_layers": 1}
GPT: dict[str, Any] = {"cls": ImageGPT, "pool": 4, "embed_dim": 8, "num_heads": 2, "num_layers": 1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ({}, {"input_shape": (3, 28, 28)}, r"1 of another shape \(network.conv1.weight 10x1x5x5 for 10x3x5x5\)"),
        ({}, {"input_shape": (1, 32, 32)}, r"1 of another shape \(network.hidden.weight 50x320 for 50x500\)"),
        ({"cls": MLP}, {"cls": MLP, "hidden_sizes": (64,)}, "3 of another shape .*network.head.weight 10x128 for 10x6"),
        ({"cls": MLP}, {}, r"4 unknown \(network.head.bias, |6 missing"),
        ({"cls": MLP}, {"cls": MLP, "hidden_sizes": (128, 10)}, r"2 missing \(network.hidden2.bias, "),
        # only the first dimension of one tensor differs, and it is no head
        (ATTENTION, ATTENTION | {"input_shape": (1, 24, 24)}, r"1 of another shape \(network.embedding.position 49x8"),
        # classes are tokens, which the head shares with the embedding
        (GPT, GPT | {"num_classes": 5}, r"2 of another shape \(network.head.weight 27x8 for 22x8, network.tokens"),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line_and_not_loaded_in_part(
    old: dict[str, Any], new: dict[str, Any], message: str, tmp_path: Path
) -> None:
    as_state_dict(make(1, **old), tmp_path / "some.pt")
    model = make(init_from=str(tmp_path / "some.pt"), **new)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match=message) as error:
        model.load_initial_weights()
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"the weights {tmp_path / 'some.pt'} do not fit {type(model).__name__}: ")
    assert changed(before, model.state_dict()) == set()


class Evil:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("canary"),)


def evil(file: Path) -> None:
    torch.save({"state_dict": {"network.head.bias": Evil()}}, file)


def old_and_evil(file: Path) -> None:
    torch.save({"network.head.bias": Evil()}, file, _use_new_zipfile_serialization=False)


def in_colour(file: Path) -> None:
    as_state_dict(make(input_shape=(3, 28, 28)), file)


REFUSALS: dict[Callable[[Path], Any], str] = {
    Path.unlink: "no weights at some.pt: --model.init_from takes a checkpoint, the directory of a run",
    truncated: "some.pt is damaged or holds no weights",
    with_a_flipped_bit: "some.pt is damaged or holds no weights (the checksum of ",
    partial(torch.save, [1, 2]): "some.pt holds no state_dict",
    evil: "some.pt is damaged or holds no weights (not made of tensors and plain values alone)",
    old_and_evil: "some.pt is damaged or holds no weights (not made of tensors and plain values alone)",
    in_colour: "the weights some.pt do not fit ConvNet: 1 of another shape (network.conv1.weight 10x3x5x5 for 10x1x5x5",
}


@pytest.mark.parametrize("spoil", REFUSALS)
def test_a_wrong_file_ends_the_command_in_one_line_and_leaves_no_run(
    spoil: Callable[[Path], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    as_state_dict(make(), Path("some.pt"))
    spoil(Path("some.pt"))
    assert main([*SHORT, "--model.init_from=some.pt"]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {REFUSALS[spoil]}")
    assert not Path("runs").exists()
    assert not Path("canary").exists()


def test_a_run_without_a_best_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no weights at .*/checkpoints/best.ckpt: "):
        make(init_from=str(tmp_path)).load_initial_weights()


# --- the command line ---------------------------------------------------------------------------------------------


def fit(*args: str, name: str) -> Path:
    assert main([*SHORT, *args, "--name", name]) == 0
    return run_of(name)


def test_a_run_starts_from_another_and_is_tested_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first = fit(name="first")
    source = state_of(first / "checkpoints" / "best.ckpt")
    second = fit("--seed_everything=1", STILL, f"--model.init_from={first}", name="second")
    assert f"init  {first}/checkpoints/best.ckpt, 8 of 8 tensors\n" in capfd.readouterr().out
    assert changed(source, state_of(second / "checkpoints" / "last.ckpt")) == set()
    config = yaml.safe_load((second / "config.yaml").read_text())
    assert config["model"]["init_args"]["init_from"] == str(first)

    shutil.rmtree(first)
    assert main(["test", "--ckpt_path", str(second)]) == 0
    assert "init  " not in capfd.readouterr().out
    assert main(["fit", "--ckpt_path", str(second), "--trainer.max_epochs=2", "--lr_scheduler=keep"]) == 0
    assert "init  " not in capfd.readouterr().out
    again = ["fit", "--ckpt_path", str(second), "--trainer.max_epochs=3", "--lr_scheduler=keep"]
    assert main([*again, "--model.init_from=some.pt"]) == 2
    said = capfd.readouterr().err
    assert f"error: model.init_from was {first}, now some.pt: a resumed run has its weights; leave it out" in said


def test_averaged_weights_are_taken_as_in_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    averaging = "--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging"
    file = fit(averaging, name="first") / "checkpoints" / "best.ckpt"
    model = make(init_from=str(file))
    model.load_initial_weights()
    averaged, last = state_of(file), torch.load(file, weights_only=True)["current_model_state"]
    assert changed(averaged, model.state_dict()) == set()
    assert changed(averaged, last)


def test_a_frozen_backbone_with_batch_norm_is_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = fit(*RESNET, name="first")
    overlay = [
        "--config",
        FINETUNE,
        "--trainer.callbacks.unfreeze_backbone_at_epoch=1",
        "--model.init_from",
        str(first),
    ]
    source = state_of(first / "checkpoints" / "best.ckpt")
    frozen = state_of(fit(*RESNET, *overlay, name="frozen") / "checkpoints" / "last.ckpt")
    assert changed(source, frozen) == {"network.head.weight", "network.head.bias"}
    later = fit(*RESNET, *overlay, "--trainer.max_epochs=2", name="later")
    trained = changed(source, state_of(later / "checkpoints" / "last.ckpt"))
    assert {"network.conv.weight", "network.norm.weight", "network.head.weight"} <= trained
    assert not [name for name in trained if not name.endswith(("weight", "bias"))]  # batch-norm keeps its statistics


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["plain", "fine-tuning"])
def test_kills_change_neither_weights_nor_metrics_and_the_file_may_be_gone(leyden: Server, variant: str) -> None:
    as_state_dict(make(1, num_classes=5), Path("some.pt"))
    command = [*FIT, "--model.init_from=some.pt"]
    if variant == "fine-tuning":
        command += ["--config", FINETUNE, "--trainer.callbacks.unfreeze_backbone_at_epoch=1"]
    code, text = leyden.run(*command, "--name", "whole")
    assert code == 0, text
    assert "init  some.pt, 6 of 8 tensors; head: 5 -> 10, new\n" in text
    for count, moment in enumerate(MOMENTS):
        again = ["fit", "--ckpt_path", "last"] if count else command
        code, text = leyden.run(*again, "--name", "killed", at=(*moment, 9))
        assert code == -9, text
        Path("some.pt").unlink(missing_ok=True)
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 0, text
    assert "init  " not in text
    assert result("killed") == result("whole")
