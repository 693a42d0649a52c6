"""Every schedule of torch ends with its run, is not exceeded unawares, and goes on to the bit after a kill."""

import csv
import math
import signal
from pathlib import Path

import pytest
import torch
from torch.optim import lr_scheduler

from leyden import PROJECT
from leyden.models.lr_schedules import LENGTHS, WarmupCosine

from ..processes import Server, result
from .test_kills import EVERY_EPOCH

SHORT = [
    "--config",
    str(PROJECT / "configs" / "mlp_vectors.yaml"),
    "--model.optimizer.lr=0.02",
    "--model.optimizer.momentum=0.9",
    "--model.lr_scheduler=CosineAnnealingLR",
    "--trainer.limit_train_batches=8",
    "--trainer.log_every_n_steps=1",
    "--trainer.limit_val_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--test_after_fit=false",
    EVERY_EPOCH,
]
ARGUMENTS = {
    "StepLR": {"step_size": 3},
    "MultiStepLR": {"milestones": [0.5]},
    "ConstantLR": {"factor": 0.5},
    "LinearLR": {"start_factor": 1.0, "end_factor": 0.1},
    "ExponentialLR": {"gamma": 0.9},
    "CosineAnnealingLR": {"eta_min": 0.001},
    "ReduceLROnPlateau": {"monitor": "val/loss", "patience": 0, "threshold": 10},
    "CyclicLR": {"base_lr": 0.001, "max_lr": 0.1, "step_size_up": 3},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "OneCycleLR": {"max_lr": 0.1},
    "PolynomialLR": {"power": 2.0},
    "WarmupCosine": {"warmup_steps": 2},
}
MADE_OF_OBJECTS = {"LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"}


def flags(name: str, interval: str) -> list[str]:
    """Returns the options that choose a schedule."""
    place = "lightning.pytorch.cli." if name == "ReduceLROnPlateau" else ""
    values = [f"--model.lr_scheduler.{key}={value}" for key, value in ARGUMENTS[name].items()]
    return [f"--model.lr_scheduler={place}{name}", *values, f"--model.lr_interval={interval}"]


def expected_rates(name: str, steps: int) -> list[float]:
    """Returns the rate of each of so many steps, by torch's class with its length as a number."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02, momentum=0.9)
    length = {LENGTHS[name]: steps} if name in LENGTHS else {}
    if name == "MultiStepLR":
        length = {"milestones": [steps // 2]}
    schedule = (WarmupCosine if name == "WarmupCosine" else getattr(lr_scheduler, name))(
        optimizer, **(ARGUMENTS[name] | length)
    )
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def logged_rates(name: str) -> list[float]:
    """Returns the rate that was logged with each step of a run."""
    (file,) = Path("runs", name).glob("*/metrics.csv")
    with file.open() as lines:
        return [float(row["lr"]) for row in csv.DictReader(lines) if row.get("train/loss_step")]


def test_every_schedule_of_torch_is_tried_here() -> None:
    assert {*lr_scheduler.__all__} == {*ARGUMENTS, *MADE_OF_OBJECTS} - {"WarmupCosine"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "interval"),
    [*((name, "epoch") for name in ARGUMENTS), ("OneCycleLR", "step"), ("WarmupCosine", "step"), ("LinearLR", "step")],
)
def test_a_run_is_extended_only_as_its_user_says_and_resumes_to_the_bit(
    name: str, interval: str, leyden: Server
) -> None:
    fit = ["fit", *SHORT, *flags(name, interval), "--trainer.max_epochs=4"]
    for run in ("whole", "killed"):
        code, text = leyden.run(*fit, "--name", run)
        assert code == 0, text
    if name != "ReduceLROnPlateau":
        expected = expected_rates(name, 32 if interval == "step" else 4)
        expected = expected if interval == "step" else [rate for rate in expected for _ in range(8)]
        assert logged_rates("whole") == pytest.approx(expected, rel=1e-6)

    further = ["fit", "--ckpt_path", "last", "--trainer.max_epochs=6"]
    if name in LENGTHS:
        code, text = leyden.run(*further, "--name", "whole")
        assert code == 2, text
        assert f"{name} ended there: --lr_scheduler restart" in text
        further.append("--lr_scheduler=restart")
    assert leyden.run(*further, "--name", "whole")[0] == 0
    assert leyden.run(*further, "--name", "killed", at=("on_train_batch_end", 12, signal.SIGKILL))[0] == -9
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 0, text
    assert result("killed") == result("whole")
    if name in LENGTHS:
        expected = expected_rates(name, 16 if interval == "step" else 2)
        expected = expected if interval == "step" else [rate for rate in expected for _ in range(8)]
        assert logged_rates("whole")[32:] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "interval"),
    [("CosineAnnealingLR", "epoch"), ("LinearLR", "epoch"), ("ConstantLR", "epoch"), ("MultiStepLR", "step")],
)
def test_the_last_rate_is_kept_where_the_user_says_so(name: str, interval: str, leyden: Server) -> None:
    fit = ["fit", *SHORT, *flags(name, interval), "--trainer.max_epochs=2"]
    further = ["fit", "--ckpt_path", "last", "--trainer.max_epochs=4", "--lr_scheduler=keep"]
    for run in ("whole", "killed"):
        assert leyden.run(*fit, "--name", run)[0] == 0
    assert leyden.run(*further, "--name", "whole")[0] == 0
    assert leyden.run(*further, "--name", "killed", at=("on_train_batch_end", 12, signal.SIGKILL))[0] == -9
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 0, text
    assert result("killed") == result("whole")
    last = {"CosineAnnealingLR": 0.001, "LinearLR": 0.002, "ConstantLR": 0.02, "MultiStepLR": 0.002}[name]
    assert logged_rates("whole")[16:] == pytest.approx([last] * 16, rel=1e-6)


def test_what_cannot_go_on_says_what_to_do(leyden: Server) -> None:
    fit = ["fit", *SHORT, "--trainer.max_epochs=1"]
    assert leyden.run(*fit)[0] == 0
    further = ["fit", "--ckpt_path", "last", "--trainer.max_epochs=2"]
    for words, line in {
        "": "trainer.max_epochs was 1, now 2: but CosineAnnealingLR ended there: --lr_scheduler restart runs it again",
        "--lr_scheduler=keep": "--lr_scheduler keep: the last rate of CosineAnnealingLR is 0, which trains next to",
    }.items():
        code, text = leyden.run(*further, *words.split())
        assert code == 2, text
        assert line in text
    code, text = leyden.run(*fit, "--lr_scheduler", "keep")
    assert code == 2
    assert "--lr_scheduler keep is for a run that goes on" in text
    assert leyden.run(*fit, "--model.lr_scheduler=null", "--name", "flat")[0] == 0
    code, text = leyden.run(*further, "--lr_scheduler", "restart", "--name", "flat")
    assert code == 2
    assert "this model's schedule has none" in text
    assert leyden.run(*further, "--name", "flat")[0] == 0


@pytest.mark.parametrize("name", sorted(MADE_OF_OBJECTS))
def test_a_schedule_that_is_made_of_objects_is_refused_in_one_line(name: str, leyden: Server) -> None:
    code, text = leyden.run("fit", *SHORT, f"--model.lr_scheduler=torch.optim.lr_scheduler.{name}")
    assert code == 2, text
    assert text.count("error: ") == 1
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("words", "line"),
    {
        "--model.lr_scheduler=MultiStepLR": "MultiStepLR needs `milestones`: --model.lr_scheduler.milestones VALUE",
        "--model.lr_scheduler.T_max=1.5": "model.lr_scheduler.T_max 1.5: a share of the run is above 0 and at most 1.0",
        "--trainer.max_epochs=-1 --trainer.max_time=00:00:00:05": "nothing says after how many epochs or steps",
    }.items(),
)
def test_a_length_that_makes_no_sense_is_refused(words: str, line: str, leyden: Server) -> None:
    code, text = leyden.run("fit", *SHORT, *words.split())
    assert code == 2, text
    assert line in text


def test_the_run_says_where_a_cosine_rises_again_and_what_one_cycle_overrides(leyden: Server) -> None:
    code, text = leyden.run("fit", *SHORT, "--trainer.max_epochs=2", "--model.lr_scheduler.T_max=1")
    assert code == 0
    assert "CosineAnnealingLR(T_max=1) falls for 1 of 2 epochs, then rises again" in text
    one_cycle = [*flags("OneCycleLR", "step"), "--trainer.max_epochs=1"]
    code, text = leyden.run("fit", *SHORT, *one_cycle)
    assert "OneCycleLR sets lr and momentum itself: the optimizer's lr 0.02 and momentum 0.9 is not used" in text
    code, text = leyden.run("fit", *SHORT, *one_cycle, "--model.lr_scheduler.cycle_momentum=false")
    assert "OneCycleLR sets lr itself: the optimizer's lr 0.02 is not used" in text
    code, text = leyden.run("fit", *SHORT, *one_cycle, "--model.optimizer.lr=0.001", "--model.optimizer.momentum=0")
    assert code == 0, text
    assert "sets lr" not in text, "these are the optimizer's defaults, which nobody gave"


def test_half_of_a_run_is_half_of_it_whatever_its_length(leyden: Server) -> None:
    for epochs in (2, 4):
        words = [f"--trainer.max_epochs={epochs}", "--model.lr_scheduler.T_max=0.5", "--model.lr_interval=step"]
        assert leyden.run("fit", *SHORT, *words, "--name", f"of-{epochs}")[0] == 0
        assert logged_rates(f"of-{epochs}")[4 * epochs] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("epochs", [-1, 9])
def test_a_schedule_by_epoch_ends_with_a_run_that_a_limit_of_steps_ends(epochs: int, leyden: Server) -> None:
    assert leyden.run("fit", *SHORT, f"--trainer.max_epochs={epochs}", "--trainer.max_steps=28")[0] == 0
    (file,) = Path("runs/mlp_vectors").glob("*/metrics.csv")
    with file.open() as lines:
        rates = [float(row["lr"]) for row in csv.DictReader(lines) if row.get("train/loss_step")]
    cosine = [0.01 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    assert rates == pytest.approx([cosine[step // 8] for step in range(28)], rel=1e-6)
