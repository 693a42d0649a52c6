"""Check what SLURM or torchrun has started against the devices and nodes of the Trainer.

Without these checks a run would wait for processes that nobody starts, or several would train alone. Lightning checks
only what it starts itself.
"""

import os

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer

from leyden.errors import UserError

SRUN = "see scripts/slurm.sbatch"


def check_started() -> None:
    """Refuse processes that Lightning could not recognize as one run, before the Trainer looks for them.

    srun sets the variables SLURM_STEP_..., sbatch and salloc only those without STEP.

    Raises:
        UserError: srun was not used, or not as Lightning needs it.
    """
    env = os.environ
    tasks, in_step = int(env.get("SLURM_NTASKS", 1)), int(env.get("SLURM_STEP_NUM_TASKS", 0))
    if "TORCHELASTIC_RUN_ID" in env:
        nodes = int(env.get("SLURM_STEP_NUM_NODES", in_step))
        if in_step > nodes:
            raise UserError(
                f"srun has started torchrun {in_step} times on {nodes} nodes, but torchrun starts the processes of a "
                "node by itself: give srun --ntasks-per-node=1 (see scripts/slurm_torchrun.sbatch)"
            )
    elif (name := SLURMEnvironment.job_name()) in ("bash", "interactive"):
        if in_step > 1:
            raise UserError(
                f"srun has started {in_step} tasks, but each would train alone, as Lightning ignores SLURM in a job "
                f"that is named `{name}`: give srun --job-name=train"
            )
    elif tasks > 1 and not in_step:
        raise UserError(
            f"this process would wait for {tasks - 1} others, as SLURM has a place for {tasks} tasks, but it was "
            f"started without srun: write `srun leyden ...` ({SRUN}), or srun --nodes=1 --ntasks-per-node=1 for one"
        )
    elif tasks > 1 and "SLURM_NTASKS_PER_NODE" not in env:
        raise UserError(
            f"SLURM has {tasks} tasks, but not how many a node: in place of --ntasks give sbatch --nodes and "
            f"--ntasks-per-node ({SRUN})"
        )


def check_processes(trainer: Trainer) -> None:
    """Refuse another number of processes than SLURM or torchrun has started.

    Args:
        trainer: The Trainer, before it waits for other processes.

    Raises:
        UserError: The numbers differ.
    """
    env, devices, nodes = os.environ, trainer.num_devices, trainer.num_nodes
    if "TORCHELASTIC_RUN_ID" in env:
        launcher, asked = "torchrun", "--nproc-per-node {} and --nnodes {}"
        a_node = int(env["LOCAL_WORLD_SIZE"])
        total, started_nodes = int(env["WORLD_SIZE"]), int(env["WORLD_SIZE"]) // a_node
    elif "SLURM_NTASKS" in env and SLURMEnvironment.job_name() not in ("bash", "interactive"):
        launcher, asked = "SLURM", "--ntasks-per-node={} and --nodes={}"
        total, started_nodes = int(env["SLURM_NTASKS"]), int(env.get("SLURM_NNODES", 1))
        a_node = int(env.get("SLURM_NTASKS_PER_NODE", total // started_nodes))
    else:
        return
    if (a_node, started_nodes, total) == (devices, nodes, devices * nodes):
        return
    if (a_node, started_nodes) == (devices, nodes):
        raise UserError(
            f"{launcher} has started {total} tasks, but {a_node} a node on {started_nodes} nodes are "
            f"{devices * nodes}: leave --ntasks out, also of srun"
        )
    raise UserError(
        f"{launcher} has {a_node} tasks a node on {started_nodes} nodes, but --trainer.devices is {devices} and "
        f"--trainer.num_nodes is {nodes}: give --trainer.devices {a_node} --trainer.num_nodes {started_nodes}, or "
        f"{launcher} {asked.format(devices, nodes)}"
    )
