"""Devices, precision, nodes and disk space are checked before a run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from leyden.cli import check_hardware
from leyden.cli.main import main

from .refusals import CONFIGS, DIGITS
from .refusals import elsewhere as elsewhere
from .refusals import refused as refused

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_a_disk_too_small_for_the_checkpoints_is_refused(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=500_000))
    line = refused("fit", "--config", DIGITS)
    assert "has 0.5 MB free" in line
    assert "--trainer.default_root_dir" in line


def test_the_room_asked_for_is_more_than_the_files_take_and_less_than_twice_that(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model = ["--model.optimizer", "torch.optim.AdamW", "--model.lr_scheduler", "null"]
    words = ["fit", "--config", str(CONFIGS / "mlp_mnist.yaml"), "--data", "DigitsDataModule", *model]
    words += ["--trainer.max_epochs", "2", "--model.hidden_sizes", "[2000]", "--test_after_fit", "false"]
    assert main(words) == 0
    written = sum(file.stat().st_size for file in Path("runs").rglob("*.ckpt"))
    for free, code in ((written, 2), (2 * written, 0)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert main(words) == code


def test_more_processes_than_cores_are_refused_before_any_is_started() -> None:
    command = [sys.executable, "-m", "leyden", "fit", "--config", DIGITS, "--trainer.accelerator", "cpu"]
    done = subprocess.run(
        [*command, "--trainer.devices", "999"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"},
        check=False,
    )
    assert done.returncode == 2
    assert "--trainer.devices 999 would start as many processes" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("runs").exists()  # the directory that the run had made is gone as well


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_refused_where_there_is_none(refused: Callable[..., str]) -> None:
    line = refused("fit", "--config", DIGITS, "--trainer.accelerator", "gpu")
    assert "No supported gpu" in line
    assert "--trainer.accelerator" in line


def test_a_run_on_two_nodes_says_what_it_waits_for_and_where_and_how_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # which the Trainer of another node changes for the whole process
    for name, value in {"MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "29500", "NODE_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    strategy = DDPStrategy(timeout=timedelta(minutes=5))
    check_hardware.announce_nodes(Trainer(num_nodes=2, devices=1, accelerator="cpu", strategy=strategy, logger=False))
    line = capsys.readouterr().out
    for part in ("node 1 waits at 10.0.0.7:29500", "2 nodes", "0:05:00"):
        assert part in line
