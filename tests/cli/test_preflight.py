"""What is refused before the first step: one line with the fix, exit code 2, nothing trained, nothing left behind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from leyden.cli import preflight
from leyden.cli.main import main
from leyden.data.digits import DigitsDataModule
from leyden.errors import UserError
from leyden.models.plain_net import PlainNet

from .refusals import CONFIGS, DIGITS, files
from .refusals import elsewhere as elsewhere
from .refusals import refused as refused

pytestmark = pytest.mark.usefixtures("elsewhere")
ONE_PIXEL = "--model PlainNet --model.pool torch.nn.Identity --model.kernel_size 1 --data.size 1 --data.augment null"
STOPPING = "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/acc"
PLATEAU = "--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau --model.lr_scheduler.monitor=val/loss"


def subset(*indices: int) -> str:
    sampler = {"class_path": "torch.utils.data.SubsetRandomSampler", "init_args": {"indices": indices}}
    return f"--data.sampler={json.dumps(sampler, separators=(',', ':'))}"


REFUSED = {  # the words after `leyden fit --config configs/convnet_digits.yaml`, and what the answer must name
    "--trainer.max_epochs 0": ["max_epochs is 0"],
    "--trainer.max_steps 0": ["max_steps is 0"],
    "--trainer.limit_train_batches 0": ["limit_train_batches 0", "none of 78"],
    "--trainer.limit_train_batches 0.0": ["limit_train_batches 0.0", "none of 78"],
    "--trainer.limit_train_batches 0.001": ["0.001", "raise it to 0.013"],  # 1 / 78 = 0.0128
    "--trainer.limit_val_batches 0.01": ["none of 13", "raise it to 0.077"],  # 1 / 13 = 0.0769
    f"--trainer.limit_val_batches 0 {STOPPING}": ["EarlyStopping monitors val/acc", "limit_val_batches is 0"],
    f"--trainer.check_val_every_n_epoch 50 {STOPPING}": ["EarlyStopping", "check_val_every_n_epoch is 50"],
    f"--trainer.limit_val_batches 0 {PLATEAU}": ["the schedule monitors val/loss", "limit_val_batches is 0"],
    "--monitor test/acc": ["ModelCheckpoint monitors test/acc", "use val/acc"],
    "--trainer.val_check_interval 79": ["val_check_interval is 79", "78 batches"],
    "--data.drop_last true --data.batch_size 1238": ["1237", "batch_size 1238", "drop_last"],
    subset(): ["0 training samples"],
    subset(10, -1): ["index -1", "0 to 1236"],
    subset(10, 1237): ["index 1237", "0 to 1236"],
    "--data.sampler torch.utils.data.SubsetRandomSampler": ["must draw indices"],
    "--data.std 1e-40": ["loss", "nan", "finite"],
    f"{ONE_PIXEL} --data.batch_size 12": ["1 value per channel", "drop_last"],  # 1237 = 12 x 103 + 1
    "--trainer.precision 16-mixed --trainer.accelerator cpu": ["16-mixed", "bf16-mixed"],
    "--trainer.precision 16 --trainer.accelerator cpu": ["precision 16 ", "bf16-mixed"],
    "--trainer.precision 64-true": ["64-true", "32-true"],
    "--model PlainNet --model.channels [8,0]": ["conv2_1", "no width"],
    "--model AttentionClassifier --model.embed_dim 0": ["embed_dim", "greater than 0"],
    "--trainer.default_root_dir /dev/null/here": ["/dev/null/here", "default_root_dir"],
    "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.dirpath=/dev/null/here": ["/dev/null/here", "dirpath"],
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_train_is_refused_before_the_first_step(words: str, refused: Callable[..., str]) -> None:
    line = refused("fit", "--config", DIGITS, *words.split())
    for part in REFUSED[words]:
        assert part in line


@pytest.mark.parametrize("words", [[subset(10, -1)], [subset(10)]])  # the second has a sample for one rank only
def test_of_several_processes_the_first_refuses_before_it_starts_the_others(leyden: Any, words: list[str]) -> None:
    two = ["--config", str(CONFIGS / "with" / "ddp_cpu.yaml")]
    code, said = leyden.run("fit", "--config", DIGITS, *two, *words)
    assert code == 2
    assert said.count("error: ") == 1
    assert "MEMBER: 1/2" not in said  # what Lightning says when a process joins
    assert files() == []


def test_evaluating_nothing_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--test_after_fit", "false"]
    assert main(["fit", "--config", DIGITS, *short]) == 0
    for command, split in (("validate", "val"), ("test", "test"), ("predict", "predict")):
        assert main([command, "--ckpt_path", "last", f"--trainer.limit_{split}_batches", "0"]) == 2
        assert f"--trainer.limit_{split}_batches is 0" in capfd.readouterr().err


def test_validation_can_be_switched_off_and_it_is_said_what_that_leaves_out(caplog: pytest.LogCaptureFixture) -> None:
    off = ["--trainer.limit_val_batches", "0", "--trainer.max_epochs", "1"]
    assert main(["fit", "--config", DIGITS, *off]) == 0
    assert "no validation (--trainer.limit_val_batches is 0)" in caplog.text
    assert [file.name for file in files() if file.name in ("last.ckpt", "best.ckpt")] == ["last.ckpt"]


@pytest.mark.parametrize("model", ["ConvNet", "PlainNet"])  # one draws dropout, the other has batch-norm
def test_training_ends_in_the_same_bits_with_and_without(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    check = preflight.check_fit
    words = ["--model", model, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "5"]
    states = []
    for checked in (True, False):
        counted = lambda *args, on=checked: calls.append(on) or (on and check(*args))  # noqa: E731
        monkeypatch.setattr("leyden.cli.cli.check_fit", counted)
        assert main(["fit", "--config", DIGITS, *words, "--test_after_fit", "false", "--name", str(checked)]) == 0
        (file,) = Path("runs", str(checked)).rglob("last.ckpt")
        checkpoint = torch.load(file, weights_only=True)
        optimizer = [state["momentum_buffer"] for state in checkpoint["optimizer_states"][0]["state"].values()]
        states.append([*checkpoint["state_dict"].values(), *optimizer])
    assert calls == [True, False]
    assert all(map(torch.equal, *states))


def test_the_check_leaves_random_numbers_model_data_and_trainer_as_they_were(tmp_path: Path) -> None:
    data = DigitsDataModule(size=16)
    model = PlainNet(input_shape=data.input_shape, num_classes=10)
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    preflight.check_fit(trainer, model, data, tmp_path)
    assert torch.get_rng_state().equal(random)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert not trainer.training
    assert data.trainer is None
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_nothing_to_train_is_refused(tmp_path: Path) -> None:
    data = DigitsDataModule(size=16)
    model = PlainNet(input_shape=data.input_shape, num_classes=10).requires_grad_(False)
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(UserError, match="no parameter to train"):
        preflight.check_fit(trainer, model, data, tmp_path)
