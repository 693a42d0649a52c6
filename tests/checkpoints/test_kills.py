"""A run that is killed and started again ends in the bits of one that was not."""

import random
import signal
import time
from pathlib import Path

import pytest

from leyden import PROJECT

from ..processes import Process, Server, is_running, result, wait_for

CONFIG = str(PROJECT / "configs" / "convnet_digits.yaml")  # dropout, augmentation, a cosine schedule
QUIET = [
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.enable_model_summary",
    "false",
    "--test_after_fit",
    "false",
]
SHORT = ["--data.batch_size", "32", "--trainer.limit_val_batches", "4", "--trainer.log_every_n_steps", "5"]
LONGER = (
    "--model.lr_scheduler.T_max=30"  # a schedule that reaches further than any run here, so that runs may be extended
)
EVERY_EPOCH = "--checkpoint.min_interval=0:00:00"
FIT = ["fit", "--config", CONFIG, "--trainer.max_epochs", "3", LONGER, EVERY_EPOCH, *SHORT, *QUIET]  # 39 steps an epoch
OFTEN = ["--checkpoint.every_n_train_steps=1"]
MOMENTS = [  # the count-th call of a hook
    ("on_train_batch_end", 45),  # in the second epoch
    ("on_validation_end", 2),  # a best.ckpt is newer than last.ckpt
    ("on_train_batch_end", 34),  # the last batch of the third epoch
    ("on_validation_start", 1),
]
MIXED = [  # random draws before each step, and probabilities as targets
    "--data.mix=leyden.data.mix.MixupOrCutMix",
    "--data.augment+=leyden.data.boxes.RandomResizedCrop",
    "--data.augment+=leyden.data.color_jitter.ColorJitter",
    "--data.augment+=leyden.data.trivial_augment.TrivialAugment",
    "--data.augment+=leyden.data.boxes.RandomErasing",
    "--model.class_weights=balanced",
    "--model.metrics+=torchmetrics.classification.MulticlassF1Score",
]
VARIANTS = {
    "plain": [],
    "two workers": ["--data.num_workers", "2"],
    "persistent workers": ["--data.num_workers", "2", "--data.persistent_workers", "true"],
    "validation every quarter": ["--trainer.val_check_interval", "0.25"],
    "accumulation": ["--trainer.accumulate_grad_batches", "3"],
    "accumulation from the second epoch on": [
        "--trainer.callbacks+=GradientAccumulationScheduler",
        "--trainer.callbacks.scheduling={0: 1, 1: 3}",
        "--checkpoint.every_n_train_steps=3",
    ],
    "bf16": ["--trainer.precision", "bf16-mixed"],
    "weight averaging": ["--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging"],
    "stochastic weight averaging": ["--trainer.callbacks+=leyden.callbacks.swa.SWA"],
    "a schedule by step": [
        "--model.lr_scheduler=torch.optim.lr_scheduler.OneCycleLR",
        "--model.lr_scheduler.max_lr=0.1",
        "--model.lr_interval=step",
    ],
    "a schedule by score": [
        "--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau",
        "--model.lr_scheduler.monitor=val/loss",
        "--model.lr_scheduler.patience=0",
        "--model.lr_scheduler.threshold=10",  # no epoch is good enough
    ],
    "AdamW": ["--model.optimizer=torch.optim.AdamW", "--model.optimizer.lr=0.003"],
    "fused AdamW": [
        "--model.optimizer=torch.optim.AdamW",
        "--model.optimizer.lr=0.003",
        "--model.optimizer.fused=true",
        "--trainer.callbacks+=leyden.callbacks.acceleration.ChannelsLast",
    ],
    "drop_last": ["--data.drop_last=true", "--data.batch_size=33"],
    "a limit of batches": ["--trainer.limit_train_batches=30"],
    "a limit of steps": ["--trainer.max_steps=100"],
    "balanced classes": ["--data.sampler=leyden.data.samplers.ClassBalancedSampler"],
    "random with replacement": [
        "--data.sampler=torch.utils.data.WeightedRandomSampler",
        f"--data.sampler.weights={[1.0, 2.0] * 30}",
        "--data.sampler.num_samples=1237",
    ],
    "mixed images": MIXED,
    "mixed images from two workers": [*MIXED, "--data.num_workers=2"],
    "a subset": [
        "--data.sampler=torch.utils.data.SubsetRandomSampler",
        f"--data.sampler.indices={list(range(0, 180, 3))}",
        "--data.batch_size=2",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_four_kills_change_neither_weights_nor_metrics(leyden: Server, variant: str) -> None:
    assert leyden.run(*FIT, *VARIANTS[variant], "--name", "whole")[0] == 0
    killed = 0
    for moment in MOMENTS:
        again = ["--ckpt_path", "last"] if killed else [*FIT[1:], *VARIANTS[variant]]
        code, text = leyden.run("fit", *again, "--name", "killed", at=(*moment, signal.SIGKILL))
        assert code in (-9, 0), text
        killed += code == -9
        if code == 0:  # a limit ended the run before that moment
            break
    if code != 0:
        code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
        assert code == 0, text
    assert killed > 0
    assert result("killed") == result("whole")


def test_a_kill_changes_neither_weights_nor_metrics(leyden: Server) -> None:
    code, text = leyden.run(*FIT, "--name", "whole")
    assert code == 0, text
    assert "weights_only" not in text  # Lightning would log at each save what it takes for the default
    assert leyden.run(*FIT, "--name", "killed", at=("on_train_batch_end", 50, signal.SIGKILL))[0] == -9
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 0, text
    assert "checkpoints/last.ckpt, step 39" in text
    assert result("killed") == result("whole")


def stopped_in_a_save(process: Process, folder: Path) -> bool:
    """Stops a run while a checkpoint is half written; false if it ended before."""
    while is_running(process.pid):
        process.kill(signal.SIGSTOP)
        while is_running(process.pid, but="T"):
            time.sleep(0.001)
        if list(folder.glob(".*.part")):
            return True
        process.kill(signal.SIGCONT)
        time.sleep(0.001)
    return False


@pytest.mark.slow
@pytest.mark.timeout(1500)  # forty commands that save after each step: more than the usual limit on a slow machine
def test_twenty_kills_at_random_moments_change_nothing(leyden: Server) -> None:
    process = leyden.start(*FIT, *OFTEN, "--name", "whole")
    wait_for("runs/whole/*/checkpoints/last.ckpt")
    start = time.monotonic()
    assert process.wait() == 0
    length = time.monotonic() - start
    draw = random.Random(0)
    killed = in_a_save = 0
    for number in range(20):
        name = f"killed-{number}"
        process = leyden.start(*FIT, *OFTEN, "--name", name)
        checkpoints = wait_for(f"runs/{name}/*/checkpoints/last.ckpt").parent
        time.sleep(draw.uniform(0, 0.8 * length))
        if number % 2:
            in_a_save += stopped_in_a_save(process, checkpoints)
        process.kill()
        if process.wait() == -9:
            killed += 1
            code, text = leyden.run("fit", "--ckpt_path", "last", "--name", name)
            assert code == 0 or "this run is finished" in text, text
        assert result(name) == result("whole")
    assert killed >= 10
    assert in_a_save >= 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--trainer.val_check_interval=0.25"],
        ["--trainer.limit_val_batches=1"],
        ["--data.num_workers=2"],
        OFTEN,
        ["--checkpoint.train_time_interval=0:00:00"],
    ],
)
def test_validation_workers_and_saves_do_not_touch_the_training(leyden: Server, flags: list[str]) -> None:
    assert leyden.run(*FIT, "--name", "whole")[0] == 0
    code, text = leyden.run(*FIT, *flags, "--name", "other")
    assert code == 0, text
    assert result("other")[0] == result("whole")[0]


@pytest.mark.slow
def test_a_run_that_is_given_more_epochs_ends_like_one_that_had_them_at_once(leyden: Server) -> None:
    assert leyden.run(*FIT, "--name", "whole")[0] == 0
    assert leyden.run(*FIT, "--trainer.max_epochs=1", "--name", "longer")[0] == 0
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "longer", "--trainer.max_epochs", "3")
    assert code == 0, text
    assert "trainer.max_epochs: 1 -> 3" in text
    assert result("longer") == result("whole")
