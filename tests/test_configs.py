"""Every file in configs/ is run: parsed, trained for a step, saved, reloaded and tested."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from leyden import PROJECT
from leyden.cli.main import main

EXPERIMENTS = sorted(file.stem for file in (PROJECT / "configs").glob("*.yaml") if file.stem != "defaults")
OVERLAYS = sorted(file.stem for file in (PROJECT / "configs" / "with").glob("*.yaml"))
ONE_STEP = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
RANDOM = ["--model.weights", "null", "--model.image_size"]
EXTRA = {  # no test downloads weights, and small images are faster
    "transfer_resnet50_cifar10": [*RANDOM, "32"],
    "transfer_alexnet_cifar10": [*RANDOM, "64"],
    "transfer_vgg16_cifar10": [*RANDOM, "32"],
}
QUICK = {  # one of each task and dataset; the others are marked slow
    "attention_mnist",
    "conv_3x3_cifar10",
    "convnet_digits",
    "imagegpt_digits",
    "linear_regression",
    "mlp_vectors",
    "rnn_mnist",
    "two_layer_regression",
}
AUGMENTATIONS = ["random_resized_crop", "color_jitter", "trivial_augment", "random_erasing", "mixup", "cutmix"]
TRAINED = ["accumulate", "clip", "deterministic", "early_stopping", "ema", "lr_find", "overfit", "swa", "trace"]
ON_GPU = ["batch_size_find", "ddp", "fp16", "multinode"]
DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny_data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data folder with both tiny datasets; no experiment may need its own files."""
    root = request.getfixturevalue("mnist_root")
    assert request.getfixturevalue("cifar10_root") == root
    monkeypatch.setenv("LEYDEN_DATA", str(root))


def test_there_are_experiments_and_overlays() -> None:
    assert {"convnet_digits", "convnet_mnist", "linear_regression", "mlp_mnist", "mlp_vectors"} <= set(EXPERIMENTS)
    assert {"bf16", "ddp", "ddp_cpu", "debug"} <= set(OVERLAYS)


def scores(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The printed scores of a model itself, without those that a callback of the experiment adds."""
    return [score for score in re.findall(r"test/\w+ [^,\s]+", capfd.readouterr().out) if "mirror" not in score]


@pytest.mark.usefixtures("tiny_data")
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EXPERIMENTS]
)
def test_an_experiment_trains_a_step_and_its_checkpoint_tests_the_same(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = PROJECT / "configs" / f"{name}.yaml"
    small = [] if "mnist" not in name and "cifar10" not in name else ["--data.val_size", "100"]
    small += EXTRA.get(name, [])
    assert main(["fit", "--config", str(config), *ONE_STEP, "--data.num_workers", "0", *small]) == 0
    (run,) = (tmp_path / "runs" / name).iterdir()
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 1
    at_the_end = scores(capfd)
    assert main(["test", "--ckpt_path", "best"]) == 0
    assert scores(capfd) == at_the_end != []


@pytest.mark.parametrize("file", [*(PROJECT / "configs").glob("*_*.yaml"), *(PROJECT / "configs/with").glob("*.yaml")])
def test_a_file_opens_with_its_purpose_and_an_experiment_with_its_command_and_result(file: Path) -> None:
    header = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert header[0].endswith(".")
    if file.parent.name == "configs":
        assert f"leyden fit --config configs/{file.name}" in header[1]
        assert "test/" in header[2]


def merged(plain: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return nested dicts with some of their values changed."""
    return plain | {k: merged(plain[k], v) if isinstance(plain[k], dict) else v for k, v in changes.items()}


def check_added(found: list[dict[str, Any]], asked: list[dict[str, Any]]) -> None:
    """Compare parts with what a file asks for, which may leave arguments out and use short names."""
    for one, wanted in zip(found, asked, strict=True):
        assert f".{one['class_path']}".endswith(f".{wanted['class_path']}")
        init_args = one.get("init_args", {})
        assert init_args == init_args | wanted.get("init_args", {})


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_changes_only_what_it_says(overlay: str, capsys: pytest.CaptureFixture[str]) -> None:
    def resolved(*configs: str) -> dict[str, Any]:
        words = [word for config in configs for word in ("--config", config)]
        with pytest.raises(SystemExit, match="0"):
            main(["fit", *words, "--print_config"])
        config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
        return config

    file = PROJECT / "configs" / "with" / f"{overlay}.yaml"
    content = yaml.safe_load(file.read_text())
    before, after = resolved(DIGITS), resolved(DIGITS, str(file))
    if augment := content.get("data", {}).get("init_args", {}).pop("augment+", []):
        old, new = (config["data"]["init_args"]["augment"] for config in (before, after))
        assert new[: len(old)] == old
        check_added(new[len(old) :], augment)
        after["data"]["init_args"]["augment"] = old
    for part in ("model", "data"):
        assert after[part] == merged(before[part], content.get(part, {}))
    plain, stacked = before["trainer"], after["trainer"]
    changed = {name: value for name, value in stacked.items() if value != plain[name]}
    wanted = content.get("trainer", {})
    for name in {"callbacks", "logger"} & {name.rstrip("+") for name in wanted if name.endswith("+")}:
        added = changed.pop(name)[len(plain[name]) :]
        check_added(added, wanted.pop(f"{name}+"))
    for part in {"strategy", "profiler"} & wanted.keys():
        if isinstance(wanted[part], dict):  # its other arguments have their defaults
            found, asked = changed[part]["init_args"], wanted[part]["init_args"]
            changed[part]["init_args"] = {name: found[name] for name in asked}
    assert changed == wanted


def test_the_debug_overlay_trains_five_steps(tmp_path: Path) -> None:
    overlay = str(PROJECT / "configs" / "with" / "debug.yaml")
    assert main(["fit", "--config", DIGITS, "--config", overlay]) == 0
    (last,) = (tmp_path / "runs").glob("*/*/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 5


def test_the_bf16_overlay_computes_in_bfloat16_and_keeps_weights_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leyden.models.conv_net import ConvNet

    seen = []
    forward = ConvNet.forward
    monkeypatch.setattr(ConvNet, "forward", lambda self, x: seen.append(forward(self, x)) or seen[-1])
    overlay = str(PROJECT / "configs" / "with" / "bf16.yaml")
    assert main(["fit", "--config", DIGITS, "--config", overlay, *ONE_STEP]) == 0
    assert seen[-1].dtype == torch.bfloat16
    (last,) = (tmp_path / "runs").glob("*/*/checkpoints/last.ckpt")
    weights = torch.load(last, weights_only=True)["state_dict"].values()
    assert {weight.dtype for weight in weights} == {torch.float32}


@pytest.mark.parametrize("name", TRAINED)
def test_an_overlay_trains(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    overlay = str(PROJECT / "configs" / "with" / f"{name}.yaml")
    assert main(["fit", "--config", DIGITS, "--config", overlay, *ONE_STEP]) == 0
    assert "leyden test --ckpt_path runs/convnet_digits/" in capfd.readouterr().out
    assert list((tmp_path / "runs").glob("*/*/checkpoints/best.ckpt"))
    assert bool(list((tmp_path / "runs").glob("*/*/fit-trace*.json"))) == (name == "trace")


@pytest.mark.parametrize("name", ON_GPU)
def test_an_overlay_for_gpus_says_in_one_line_where_there_is_none(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    overlay = str(PROJECT / "configs" / "with" / f"{name}.yaml")
    assert main(["fit", "--config", DIGITS, "--config", overlay]) == 2
    assert "gpu" in capfd.readouterr().err.lower().splitlines()[-1]


@pytest.mark.usefixtures("tiny_data")
@pytest.mark.parametrize(
    "overlays", [AUGMENTATIONS[:-1], *(pytest.param([name], marks=pytest.mark.slow) for name in AUGMENTATIONS)]
)
def test_the_overlays_of_augmentation_change_the_images_of_a_step(
    overlays: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from leyden.models.conv_net import ConvNet

    seen: list[torch.Tensor] = []
    forward = ConvNet.forward
    monkeypatch.setattr(ConvNet, "forward", lambda self, x: (self.training and seen.append(x)) or forward(self, x))
    experiment = str(PROJECT / "configs" / "convnet_cifar10.yaml")
    fit = ["fit", "--config", experiment, *ONE_STEP, "--data.val_size", "100", "--test_after_fit", "false"]
    assert main(fit) == 0
    plain = seen[-1]
    flags = [word for name in overlays for word in ("--config", str(PROJECT / "configs" / "with" / f"{name}.yaml"))]
    assert main([*fit, *flags]) == 0
    assert seen[-1].shape == plain.shape
    assert not seen[-1].equal(plain)
