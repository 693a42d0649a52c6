"""Two processes that train together: kills, signals, and a rank that dies or freezes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leyden import PROJECT
from leyden.parent import MAIN_PROCESS

from .conftest import is_running, result, wait_for
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
        """The process ids of those that the first one has started."""
        children = Path(f"/proc/{self.main.pid}/task/{self.main.pid}/children").read_text().split()
        return [int(child) for child in children if "leyden" in Path(f"/proc/{child}/cmdline").read_text()]

    def wait(self) -> tuple[int, str]:
        """The exit code, and what was printed."""
        return self.main.wait(timeout=200), self.output.read_text()


def ends(pid: int) -> bool:
    """Whether a process ends within a minute."""
    deadline = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not is_running(pid)


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
    assert not list(Path().glob("leyden-*.pt"))  # the arrays that the two shared


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
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "the process that started it is gone" in line or "lost another process of this run" in line
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


@pytest.mark.parametrize("callback", ["EMAWeightAveraging", "WeightAveraging"])
def test_two_ranks_with_averaged_weights_go_on_exactly_after_a_kill(callback: str) -> None:
    averaged = [*TWO, *OFTEN, f"--trainer.callbacks+=lightning.pytorch.callbacks.{callback}"]
    code, text = Ranks(*averaged, "--name", "whole").wait()
    assert code == 0, text
    ranks = Ranks(*averaged, "--name", "killed")
    wait_for("runs/killed/*/checkpoints/best.ckpt")  # in the second epoch
    os.killpg(ranks.main.pid, signal.SIGKILL)
    assert ranks.main.wait() == -signal.SIGKILL
    code, text = Ranks("fit", "--ckpt_path", "last", "--name", "killed").wait()
    assert code == 0, text
    assert result("killed") == result("whole")
