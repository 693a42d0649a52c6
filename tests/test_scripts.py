"""The scripts for SLURM and torchrun, with a stand-in for SLURM."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from leyden import PROJECT

from .checkpoints.test_kills import FIT, OFTEN
from .processes import result, run_of, wait_for
from .slurm import Job

SCRIPTS = sorted((PROJECT / "scripts").iterdir())
TWO = [*FIT, "--config", str(PROJECT / "configs" / "with" / "ddp_cpu.yaml"), "--data.batch_size=16", *OFTEN]
JOBS = {  # two processes each
    "slurm.sbatch": {"SLURM_NTASKS_PER_NODE": "2"},
    "slurm_torchrun.sbatch": {"NPROC": "2"},
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_passes_shellcheck(script: Path) -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    found = subprocess.run([shellcheck, str(script)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert os.access(script, os.X_OK)


@pytest.mark.slow
def test_a_single_task_trains() -> None:
    code, text = Job("slurm.sbatch", *FIT, "--name=one").wait()
    assert code == 0, text
    assert run_of("one").joinpath("checkpoints", "best.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("script", JOBS)
def test_a_task_of_a_job_array_is_queued_again_alone_and_goes_on_exactly(script: str) -> None:
    def start(name: str, **env: str) -> Job:
        return Job(script, *TWO, f"--name={name}", **JOBS[script], **env)

    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "9"}
    job = start("array", **array)
    run = wait_for("runs/array/*/checkpoints/last.ckpt").parents[1]
    job.signal(signal.SIGUSR1)
    code, text = job.wait()
    assert code != 0
    assert "stopped at step" in text
    assert job.calls() == "requeue 7_3\n"

    code, text = start("array", **array, SLURM_RESTART_COUNT="1").wait()
    assert code == 0, text
    assert f"from  {run}/checkpoints/last.ckpt" in text
    assert text.count("seed_everything") == 0  # the seed is that of the task, as before
    code, text = start("whole", **array).wait()
    assert code == 0, text
    assert "Seed set to 3" in text
    assert result("array") == result("whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"SLURM_NTASKS": "1"}, "SLURM has started 1 tasks, but 2 a node on 1 nodes are 2"),
        ({"SLURM_JOB_NAME": "bash"}, "give srun --job-name=train"),
        ({"MASTER_ADDR": "192.0.2.1"}, "rank 0 cannot be reached at 192.0.2.1:15007"),  # of TEST-NET-1, RFC 5737
    ],
)
def test_a_wrong_setting_is_said_once_with_code_2(env: dict[str, str], said: str) -> None:
    code, text = Job("slurm.sbatch", *TWO, **{"SLURM_NTASKS_PER_NODE": "2"} | env).wait()
    assert code == 2 or code == 137  # of a task that was killed because of the other
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert said in line
