"""Every strategy, plugin and option of the Trainer that a CPU has: it trains, or one line says why not."""

import subprocess
import sys
from pathlib import Path

import pytest

from leyden import PROJECT
from leyden.cli.main import main

pytestmark = pytest.mark.slow

SHORT = [
    "fit",
    "--config",
    str(PROJECT / "configs" / "convnet_digits.yaml"),
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=1",
    "--trainer.limit_test_batches=1",
]
PLUGINS = "--trainer.plugins=lightning.pytorch.plugins"
WORKS = [
    "--trainer.strategy=auto",
    "--trainer.strategy=single_device",
    f"{PLUGINS}.MixedPrecision --trainer.plugins.precision=bf16-mixed --trainer.plugins.device=cpu",
    "--trainer.benchmark=true",
    "--trainer.detect_anomaly=true",
    "--trainer.deterministic=true",
    "--trainer.enable_autolog_hparams=true",
    "--trainer.fast_dev_run=true",
    "--trainer.gradient_clip_val=1 --trainer.gradient_clip_algorithm=value",
    "--trainer.gradient_clip_val=1 --trainer.precision=bf16-mixed --model.optimizer.fused=true",
    "--trainer.inference_mode=false",
    "--trainer.max_epochs=-1 --trainer.max_steps=3",
    "--trainer.max_time=00:00:01:00",
    "--trainer.num_sanity_val_steps=-1",
    "--trainer.overfit_batches=2",
    "--trainer.profiler=advanced",
    "--trainer.profiler=pytorch",
    "--trainer.reload_dataloaders_every_n_epochs=1",
    "--trainer.sync_batchnorm=true",
    "--trainer.use_distributed_sampler=false",
    "--trainer.val_check_interval=00:00:00:01",
]
REFUSED = {
    "--trainer.barebones=true": "--trainer.barebones true switches off",
    "--trainer.devices=-1": "`devices` selected with `CPUAccelerator` should be an int > 0",
    "--trainer.devices=0": "`Trainer(devices='0')` value is not a valid input",
    "--trainer.devices=[0,1]": "`devices` selected with `CPUAccelerator` should be an int > 0",
    "--trainer.log_every_n_steps=0": "--trainer.log_every_n_steps is 0",
    "--trainer.strategy=ddp_fork --trainer.devices=2": "take ddp",
    "--trainer.strategy=ddp_notebook --trainer.devices=2": "take ddp",
    "--trainer.strategy=ddp_spawn --trainer.devices=2": "take ddp",
    "--trainer.strategy=deepspeed": "you must have DeepSpeed installed",
    "--trainer.strategy=fsdp": "requires a GPU accelerator",
    "--trainer.precision=transformer-engine": "transformer_engine",
    f"{PLUGINS}.DoublePrecision": "--trainer.precision 64-true: inputs have 32 bits",
    f"{PLUGINS}.HalfPrecision": "--trainer.precision 16-true: inputs have 32 bits",
    f"{PLUGINS}.io.AsyncCheckpointIO": "AsyncCheckpointIO: the checkpoints are written by SafeCheckpointIO",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", WORKS)
def test_an_option_of_the_trainer_trains_and_tests(words: str) -> None:
    assert main([*SHORT, *words.split()]) == 0


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_work_on_this_machine_is_refused_before_the_first_step(
    words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*SHORT, *words.split()]) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert REFUSED[words] in line
    assert not list(Path().rglob("*.ckpt"))


@pytest.mark.parametrize("strategy", ["ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false"])
def test_two_processes_train_and_test(strategy: str) -> None:
    command = [sys.executable, "-m", "leyden", *SHORT, "--trainer.devices=2", f"--trainer.strategy={strategy}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "test/acc" in done.stdout
