"""SIGTERM, SIGINT and SLURM's SIGUSR1: the run saves, says how to go on, and goes on as if nothing had been."""

import os
import signal
from pathlib import Path

import pytest

from ..processes import Server, result, wait_for
from .test_kills import FIT

LONG = [*FIT, "--trainer.max_epochs", "8"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_the_run_goes_on_exactly(leyden: Server, number: int, code: int) -> None:
    process = leyden.start(*LONG, "--name", "stopped", "--data.num_workers", "1")
    run = wait_for("runs/stopped/*/checkpoints/last.ckpt").parents[1]
    process.kill(number)
    assert process.wait() == code
    assert f"go on with: leyden fit --ckpt_path {run.absolute()}" in process.text()
    assert "Traceback" not in process.text()

    ended, text = leyden.run("fit", "--ckpt_path", str(run))
    assert ended == 0, text
    assert leyden.run(*LONG, "--name", "whole")[0] == 0
    assert result("stopped") == result("whole")


@pytest.mark.slow
@pytest.mark.parametrize("hook", ["on_validation_start", "on_train_epoch_end", "on_before_backward", "on_train_end"])
def test_a_signal_is_heard_at_any_moment(leyden: Server, hook: str) -> None:
    count = 1 if hook == "on_train_end" else 2
    code, text = leyden.run(*FIT, "--name", "stopped", at=(hook, count, signal.SIGTERM))
    assert code == 143, text
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "stopped")
    assert (code == 2 and "this run is finished" in text) if hook == "on_train_end" else code == 0, text
    assert leyden.run(*FIT, "--name", "whole")[0] == 0
    assert result("stopped") == result("whole")


@pytest.mark.slow
def test_with_one_batch_an_epoch_a_signal_is_heard_between_epochs(leyden: Server) -> None:
    one = [*FIT, "--data.batch_size=1237", "--trainer.max_epochs=30", "--trainer.log_every_n_steps=1"]
    code, text = leyden.run(*one, "--name", "stopped", at=("on_before_backward", 4, signal.SIGTERM))
    assert code == 143, text
    assert leyden.run("fit", "--ckpt_path", "last", "--name", "stopped")[0] == 0
    assert leyden.run(*one, "--name", "whole")[0] == 0
    assert result("stopped") == result("whole")


@pytest.mark.slow
def test_in_an_accumulation_a_signal_waits_for_the_optimizer_step(leyden: Server) -> None:
    accumulate = [*FIT, "--trainer.accumulate_grad_batches=4"]
    code, text = leyden.run(*accumulate, "--name", "stopped", at=("on_before_backward", 45, signal.SIGTERM))
    assert code == 143, text
    assert leyden.run("fit", "--ckpt_path", "last", "--name", "stopped")[0] == 0
    assert leyden.run(*accumulate, "--name", "whole")[0] == 0
    assert result("stopped") == result("whole")


def test_before_training_ctrl_c_ends_with_130_and_no_traceback(leyden: Server) -> None:
    code, text = leyden.run(*FIT, at=("setup", 1, signal.SIGINT))
    assert code == 130
    assert "Traceback" not in text


def test_sigusr1_without_slurm_saves_and_ends(leyden: Server) -> None:
    code, text = leyden.run(*FIT, at=("on_before_backward", 4, signal.SIGUSR1), env={"SLURM_JOB_ID": ""})
    assert code == 138
    assert "stopped at step 4, saved; go on with" in text


def test_a_job_that_cannot_be_queued_again_says_so(leyden: Server, tmp_path: Path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text("#!/bin/sh\necho 'slurm_requeue: access denied' >&2\nexit 1\n")
    scontrol.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    code, text = leyden.run(*FIT, at=("on_before_backward", 4, signal.SIGUSR1), env=job)
    assert code == 1
    assert "stopped at step 4, saved" in text
    assert text.endswith("error: not queued again: `scontrol requeue 7` failed (slurm_requeue: access denied)\n")


@pytest.mark.slow
def test_a_slurm_job_is_queued_again_once_and_goes_on(
    leyden: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    scontrol.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}

    process = leyden.start(*LONG, "--name", "job", env=job)
    run = wait_for("runs/job/*/checkpoints/last.ckpt").parents[1]
    process.kill(signal.SIGUSR1)
    assert process.wait() == 138
    assert (tmp_path / "calls").read_text() == "requeue 7\n"

    code, text = leyden.run(*LONG, "--name", "job", env=job | {"SLURM_RESTART_COUNT": "1"})  # the same command
    assert code == 0, text
    assert f"from  {run}/checkpoints/last.ckpt" in text
    assert leyden.run(*LONG, "--name", "whole")[0] == 0
    assert result("job") == result("whole")
