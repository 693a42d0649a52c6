"""What SLURM or torchrun has started must be what the Trainer waits for."""

import os
from collections.abc import Callable

import pytest

from .refusals import CONFIGS, DIGITS, elsewhere, refused

__all__ = ["elsewhere", "refused"]
TWO = ["fit", "--config", DIGITS, "--config", str(CONFIGS / "with" / "ddp_cpu.yaml")]
JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "a", "SLURM_NNODES": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
JOB |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODEID": "0"}
STEP = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "id", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN |= {"TORCHELASTIC_RESTART_COUNT": "0", "GROUP_WORLD_SIZE": "1"}
WRONG = {
    "srun is missing": (JOB, "started without srun: write `srun leyden"),
    "the number of tasks a node is missing": (JOB | STEP | {"SLURM_NTASKS_PER_NODE": ""}, "give sbatch --nodes and"),
    "a job that Lightning takes for an interactive one": (
        JOB | STEP | {"SLURM_JOB_NAME": "interactive"},
        "each would train alone",
    ),
    "more tasks a node than devices": (
        JOB | STEP | {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_STEP_NUM_TASKS": "4"},
        "give --trainer.devices 4 --trainer.num_nodes 1, or SLURM --ntasks-per-node=2 and --nodes=1",
    ),
    "more nodes": (
        JOB | STEP | {"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_STEP_NUM_TASKS": "4"},
        "give --trainer.devices 2 --trainer.num_nodes 2",
    ),
    "fewer tasks than nodes times tasks a node": (
        JOB | STEP | {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"},
        "SLURM has started 1 tasks, but 2 a node on 1 nodes are 2: leave --ntasks out",
    ),
    "torchrun for each GPU": (JOB | STEP | TORCHRUN, "srun has started torchrun 2 times on 1 nodes"),
    "more processes of torchrun": (
        TORCHRUN | {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"},
        "give --trainer.devices 4 --trainer.num_nodes 1, or torchrun --nproc-per-node 2 and --nnodes 1",
    ),
    "the processes of one node on two": (
        TORCHRUN | {"LOCAL_WORLD_SIZE": "1", "GROUP_WORLD_SIZE": "2"},
        "give --trainer.devices 1 --trainer.num_nodes 2",
    ),
}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_launch_is_refused_in_one_line(
    name: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env, said = WRONG[name]
    for variable in [variable for variable in os.environ if variable.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(variable)
    for variable, value in env.items():
        monkeypatch.setenv(variable, value)
        if not value:
            monkeypatch.delenv(variable)
    assert said in refused(*TWO)
