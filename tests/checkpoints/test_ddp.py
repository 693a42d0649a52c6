"""Two processes that train together: the same weights as of one, kills, signals, and a rank that dies or freezes."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor

from leyden import PROJECT
from leyden.cli.parent_watch import MAIN_PROCESS

from ..processes import Server, is_running, result, run_of, wait_for
from .test_kills import FIT, OFTEN

pytestmark = pytest.mark.slow
TWO = [*FIT, "--config", str(PROJECT / "configs" / "with" / "ddp_cpu.yaml"), "--data.batch_size=16"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))


class Ranks:
    """`leyden ARGS` in two processes, which print to one file.

    Args:
        args: The words after `leyden`.
        by: What starts the first process.
        env: More variables.
    """

    def __init__(self, *args: str, by: tuple[str, ...] = (), env: dict[str, str] | None = None) -> None:
        self.output = Path(f"output-{time.monotonic_ns()}.txt")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"} | (env or {})
        command = [sys.executable, *by, "-m", "leyden", *args]
        with self.output.open("w") as file:
            self.main = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    def child(self) -> int:
        """The process id of rank 1."""
        (pid,) = self.children()
        return pid

    def children(self) -> list[int]:
        """The process ids of the ranks that the first one has started.

        By their environment: other commands that it starts have its own command line for a moment.
        """
        children = Path(f"/proc/{self.main.pid}/task/{self.main.pid}/children").read_text().split()
        found = []
        for child in children:
            with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                if b"LOCAL_RANK=" in Path(f"/proc/{child}/environ").read_bytes():
                    found.append(int(child))
        return found

    def wait(self) -> tuple[int, str]:
        """The exit code, and what was printed."""
        return self.main.wait(timeout=200), self.output.read_text()


def ends(pid: int) -> bool:
    """Whether a process ends within a minute."""
    deadline = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not is_running(pid)


SAME = [  # batch-norm, nothing random after the start, and an odd number of validation samples
    "--model=PlainNet",
    "--model.activation=torch.nn.Softplus",  # smooth, as a ReLU or a maximum would enlarge differences of rounding
    "--model.pool=torch.nn.AvgPool2d",
    "--data.augment=[]",
    "--data.val_size=101",
    "--trainer.limit_train_batches=10",
    "--trainer.limit_val_batches=1.0",
    "--trainer.max_epochs=2",
]
ALONE, TOGETHER = [*FIT, *SAME], [*TWO, *SAME]


def state(name: str) -> dict[str, Tensor]:
    """The weights and buffers of a run."""
    checkpoint = torch.load(run_of(name) / "checkpoints" / "last.ckpt", weights_only=True)
    return {key: value.float() for key, value in checkpoint["state_dict"].items()}


def scores(name: str) -> list[tuple[str, float]]:
    """Every number that a run has logged."""
    with (run_of(name) / "metrics.csv").open() as file:
        return [(column, float(cell)) for row in csv.DictReader(file) for column, cell in row.items() if cell]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            [],
            "2 processes on 1 node; batch 32 = 2 processes x 16; 10 steps an epoch; the learning rate stays 0.02",
        ),
        (["--model.class_weights=[1,2,3,4,5,6,7,8,9,10]", "--model.label_smoothing=0.1"], "batch 32 = "),
        (
            ["--trainer.gradient_clip_val=0.2", "--trainer.accumulate_grad_batches=2"],
            "batch 64 = 2 processes x 16 x 2 accumulated; 5 steps an epoch; the learning rate stays 0.02",
        ),
    ],
    ids=["batch-norm", "a weighted loss", "clipping and accumulation"],
)
def test_two_processes_train_to_the_weights_and_scores_of_one(leyden: Server, words: list[str], line: str) -> None:
    code, text = leyden.run(*ALONE, *words, "--name", "one")
    assert code == 0, text
    assert " processes x " not in text
    code, text = Ranks(*TOGETHER, *words, "--name", "two").wait()
    assert code == 0, text
    assert text.count(line) == 1
    one, two = state("one"), state("two")
    assert list(two) == list(one)  # the names of batch-norm, so the checkpoint loads anywhere
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-6, rtol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
    expected = scores("one")
    assert {"train/loss", "train/loss_step", "train/acc", "val/loss", "val/acc"} <= {name for name, _ in expected}
    found = scores("two")
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-5)


def test_batch_norm_of_each_process_by_itself_trains_to_other_weights(leyden: Server) -> None:
    assert leyden.run(*ALONE, "--name", "one")[0] == 0
    code, text = Ranks(*TOGETHER, "--trainer.sync_batchnorm=false", "--name", "two").wait()
    assert code == 0, text
    one, two = state("one"), state("two")
    assert max((two[key] - value).abs().max() for key, value in one.items()) > 0.01


def test_kills_of_two_ranks_change_neither_weights_nor_metrics() -> None:
    ranks = Ranks(*TWO, *OFTEN, "--name", "whole")
    wait_for("runs/whole/*/checkpoints/last.ckpt")
    start = time.monotonic()
    assert ranks.wait()[0] == 0
    length = time.monotonic() - start
    draw = random.Random(1)
    ranks = Ranks(*TWO, *OFTEN, "--name", "killed")
    saved = 0
    for _ in range(3):
        wait_for("runs/killed/*/checkpoints/last.ckpt", after=saved)  # this part of the run has saved
        time.sleep(draw.uniform(0, length / 4))
        os.killpg(ranks.main.pid, signal.SIGKILL)
        assert ranks.main.wait() == -signal.SIGKILL
        saved = time.time_ns()
        ranks = Ranks("fit", "--ckpt_path", "last", "--name", "killed")
    code, text = ranks.wait()
    assert code == 0, text
    assert result("killed") == result("whole")


@pytest.mark.parametrize("rank", [0, 1])
def test_sigterm_to_either_rank_saves_and_ends_both(rank: int) -> None:
    ranks = Ranks(*TWO, "--name", "stopped", "--trainer.max_epochs=100")
    wait_for("runs/stopped/*/checkpoints/last.ckpt")
    child = ranks.child()
    os.kill([ranks.main.pid, child][rank], signal.SIGTERM)
    code, text = ranks.wait()
    assert code == 143, text
    assert "go on with: leyden fit --ckpt_path" in text
    assert ends(child)

    code, text = Ranks("fit", "--ckpt_path", "last", "--trainer.devices=1", "--trainer.strategy=auto").wait()
    assert code == 2
    assert "is from the middle of an epoch of 2 processes" in text


@pytest.mark.parametrize("event", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_freezes_ends_the_run_and_leaves_no_process(event: int) -> None:
    ranks = Ranks(*TWO, "--trainer.strategy.timeout=0:00:30", "--trainer.max_epochs=100")
    file = wait_for("runs/*/*/checkpoints/last.ckpt")
    child = ranks.child()
    os.kill(child, event)
    code, text = ranks.wait()
    assert code == 1, text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "lost another process of this run" in line
    assert f"go on with: leyden fit --ckpt_path {file.absolute().parents[1]}" in line
    assert "Traceback" not in text
    assert ends(child)
    assert file.exists() or file.with_name("previous.ckpt").exists()


def test_a_main_process_that_is_killed_leaves_no_rank_behind() -> None:
    ranks = Ranks(*TWO, "--trainer.max_epochs=100")
    wait_for("runs/*/*/checkpoints/last.ckpt")
    child = ranks.child()
    ranks.main.kill()
    ranks.main.wait()
    assert ends(child)


@pytest.mark.parametrize("seconds", [0, 2, 5])  # imports, waits for the other, or trains
def test_a_main_process_that_is_killed_at_the_start_takes_the_rank_with_it(seconds: float) -> None:
    ranks = Ranks(*TWO)
    while not ranks.children():
        time.sleep(0.02)
    child = ranks.child()
    time.sleep(seconds)
    ranks.main.kill()
    ranks.main.wait()
    killed = time.monotonic()
    assert ends(child)
    assert time.monotonic() - killed < 20
    text = ranks.output.read_text()
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, text
    assert "the process that started it is gone" in lines[0] or "lost another process of this run" in lines[0]
    assert "Traceback" not in text


def test_a_rank_whose_main_process_is_gone_before_it_starts_ends() -> None:
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    code, text = Ranks(*TWO, env={"LOCAL_RANK": "1", MAIN_PROCESS: gone}).wait()
    assert code == 1
    assert text == "error: rank 1 ends: the process that started it is gone\n"


def test_a_rank_that_torchrun_has_started_and_that_dies_ends_the_other_in_one_line() -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    ranks = Ranks(*TWO, "--trainer.max_epochs=100", by=torchrun)
    run = wait_for("runs/*/*/checkpoints/last.ckpt").parents[1]
    started = ranks.children()
    os.kill(started[1], signal.SIGKILL)
    code, text = ranks.wait()
    assert code == 1, text
    assert text.count("error: ") == 1, text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "lost another process of this run" in line
    assert f"go on with: leyden fit --ckpt_path {run.absolute()}" in line
    assert "[rank0]" not in text  # as torch begins each line of a traceback
    assert not any(is_running(pid) for pid in started)


@pytest.mark.parametrize(
    ("callback", "model"),
    [("EMAWeightAveraging", "ConvNet"), ("WeightAveraging", "ConvNet"), ("EMAWeightAveraging", "PlainNet")],
)
def test_two_ranks_with_averaged_weights_go_on_exactly_after_a_kill(callback: str, model: str) -> None:
    """PlainNet has batch-norm, whose statistics are those of both."""
    averaged = [*TWO, *OFTEN, f"--model={model}", "--model.class_weights=balanced"]
    averaged += [f"--trainer.callbacks+=lightning.pytorch.callbacks.{callback}"]
    code, text = Ranks(*averaged, "--name", "whole").wait()
    assert code == 0, text
    ranks = Ranks(*averaged, "--name", "killed")
    wait_for("runs/killed/*/checkpoints/best.ckpt")  # in the second epoch
    os.killpg(ranks.main.pid, signal.SIGKILL)
    assert ranks.main.wait() == -signal.SIGKILL
    code, text = Ranks("fit", "--ckpt_path", "last", "--name", "killed").wait()
    assert code == 0, text
    assert result("killed") == result("whole")
