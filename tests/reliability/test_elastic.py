"""torchrun starts a run again whose process has died: it goes on where it was."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from leyden import PROJECT

from .conftest import is_running, result, run_of, wait_for
from .test_kills import FIT, OFTEN

pytestmark = pytest.mark.slow
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1"]
TWO = [*FIT, "--config", str(PROJECT / "configs" / "with" / "ddp_cpu.yaml"), "--data.batch_size=16", *OFTEN]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def start(*command: str) -> subprocess.Popen[bytes]:
    """Begins a torchrun that prints to `output.txt`."""
    with Path("output.txt").open("a") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


def rank(agent: subprocess.Popen[bytes], number: int) -> int:
    """The process id of a rank."""
    for child in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split():
        if f"\0LOCAL_RANK={number}\0" in Path(f"/proc/{child}/environ").read_text():
            return int(child)
    raise AssertionError


@pytest.mark.parametrize(("rendezvous", "number"), [(["--standalone"], 1), (["--master-port=29517"], 0)])
def test_a_rank_that_is_killed_is_started_again_and_its_run_goes_on(rendezvous: list[str], number: int) -> None:
    assert start(*TORCHRUN, *rendezvous, "-m", "leyden", *TWO, "--name", "whole").wait(200) == 0
    # a command that goes on from a checkpoint itself: started again, it does not go on from that once more
    begun = ["fit", "--ckpt_path", str(run_of("whole") / "checkpoints" / "previous.ckpt"), "--name", "branch"]
    for name, command in {"killed": [*TWO, "--name", "killed"], "branch": [*begun, "--trainer.max_epochs=5"]}.items():
        agent = start(*TORCHRUN, *rendezvous, "-m", "leyden", *command)
        saved = wait_for(f"runs/{name}/*/checkpoints/last.ckpt").stat().st_mtime_ns
        wait_for(f"runs/{name}/*/checkpoints/last.ckpt", after=saved + 10**8)
        victim = rank(agent, number)
        os.kill(victim, signal.SIGKILL)
        code, text = agent.wait(200), Path("output.txt").read_text()
        assert code == 0, text
        assert not is_running(victim)
        assert f"from  {run_of(name)}/checkpoints/" in text
    assert result("killed") == result("whole")
