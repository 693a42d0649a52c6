"""torchrun starts a run again whose process has died: it goes on where it was; and how the ranks end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from leyden import PROJECT

from ..checkpoints.test_kills import FIT, OFTEN
from ..processes import is_running, result, run_of, wait_for

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


def killed(agent: subprocess.Popen[bytes], name: str, number: int) -> str:
    """Kills a rank of a run in the midst of its training; what was printed when torchrun has ended well."""
    saved = wait_for(f"runs/{name}/*/checkpoints/last.ckpt").stat().st_mtime_ns
    wait_for(f"runs/{name}/*/checkpoints/last.ckpt", after=saved + 10**8)
    victim = rank(agent, number)
    os.kill(victim, signal.SIGKILL)
    code, text = agent.wait(300), Path("output.txt").read_text()
    assert code == 0, text
    assert not is_running(victim)
    assert f"from  {run_of(name)}/checkpoints/" in text
    return text


def test_a_rank_that_is_killed_is_started_again_and_its_run_goes_on() -> None:
    assert start(*TORCHRUN, "--standalone", "-m", "leyden", *TWO, "--name", "whole").wait(300) == 0
    killed(start(*TORCHRUN, "--standalone", "-m", "leyden", *TWO, "--name", "killed"), "killed", 1)
    assert result("killed") == result("whole")
    # a command that goes on from another run: started again, it goes on from its own
    other = ["fit", "--ckpt_path", str(run_of("whole") / "checkpoints" / "previous.ckpt"), "--trainer.max_epochs=5"]
    text = killed(start(*TORCHRUN, "--master-port=29517", "-m", "leyden", *other, "--name", "branch"), "branch", 0)
    assert text.count(f"from  {other[2]}") == 1


RUN = """
import atexit, os, pathlib, sys
import torch.distributed
from leyden.cli.main import main
atexit.register(lambda: pathlib.Path(os.environ["RANK"]).write_text(str(torch.distributed.is_initialized())))
sys.exit(main(sys.argv[1:]))
"""


def test_ranks_destroy_their_process_group_while_the_interpreter_still_runs() -> None:
    """Else a thread of gloo that releases a tensor later aborts the process (pytorch/pytorch#179291)."""
    Path("run.py").write_text(RUN)
    assert start(*TORCHRUN, "--standalone", "run.py", *TWO, "--trainer.fast_dev_run=true").wait(300) == 0
    assert [Path(rank).read_text() for rank in "01"] == ["False", "False"]
