"""Resume runs that SLURM, torchrun or `leyden repeat` restarts: `launch.json` records the launch of a run."""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from lightning.fabric.plugins.environments.lightning import find_free_network_port
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from leyden.durable import replacing
from leyden.errors import UserError
from leyden.runs.directory import all_runs, has_checkpoint
from leyden.runs.metrics import LAUNCH
from leyden.runs.repeat_plan import REPEAT


def record_launch(directory: Path, command: list[str]) -> None:
    """Record the launch to which a run belongs, if any, and its command, for `restarted_run`.

    Args:
        directory: The run's directory.
        command: The arguments of `leyden`; one launch may have several commands.
    """
    if launches := _launches():
        with replacing(directory / LAUNCH) as part:
            part.write_text(json.dumps({"launches": list(launches), "command": command}), encoding="utf-8")


def record_end(directory: Path) -> None:
    """Record that a run has ended, with the test after it; `leyden repeat` then does not start it again.

    Args:
        directory: The run's directory. A run that nothing launched records nothing.
    """
    file = directory / LAUNCH
    if file.is_file():
        record = json.loads(file.read_text(encoding="utf-8"))
        with replacing(file) as part:
            part.write_text(json.dumps(record | {"ended": True}), encoding="utf-8")


def restarted_run(root: Path, command: list[str]) -> Path | None:
    """Return the run that this launch started with the same command before its restart, or None.

    All processes find the same run. A run without a checkpoint is not resumed: a new one starts.

    Args:
        root: The directory of all runs.
        command: The arguments of `leyden`.

    Raises:
        UserError: torchrun may restart it on several nodes, without an id that is the same on all nodes.
    """
    restarted = {launch for launch, may_be_restart in _launches().items() if may_be_restart}
    for run in reversed(all_runs(root)) if restarted else ():
        with suppress(OSError, ValueError):  # most runs have no such file
            record = json.loads((run / LAUNCH).read_text(encoding="utf-8"))
            if record["command"] == command and restarted.intersection(record["launches"]) and has_checkpoint(run):
                return run
    return None


def slurm_job() -> str | None:
    """Return the id of this job of SLURM as `scontrol` takes it, None without SLURM.

    A task of a job array is `ARRAY_TASK`: the id of its first task is that of the array too, which stands for all.
    """
    env = os.environ
    if "SLURM_ARRAY_TASK_ID" in env:
        return f"{env['SLURM_ARRAY_JOB_ID']}_{env['SLURM_ARRAY_TASK_ID']}"
    return env.get("SLURM_JOB_ID")


def _launches() -> dict[str, bool]:
    """Return what launched this process, SLURM or torchrun or both, and whether each may have restarted it."""
    env, launches = os.environ, {}
    if job := slurm_job():
        launches[f"slurm {job}"] = int(env.get("SLURM_RESTART_COUNT", 0)) > 0
    if "TORCHELASTIC_RUN_ID" in env:
        launch, several_nodes = env["TORCHELASTIC_RUN_ID"], int(env.get("GROUP_WORLD_SIZE", 1)) > 1
        if launch == "none":  # torchrun was given neither --rdzv-id nor --standalone
            if several_nodes and int(env.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0:
                raise UserError(
                    "torchrun --max-restarts on several nodes needs --rdzv-id, a new one for each launch: by it the "
                    "run is found again after a restart"
                )
            launch = f"{socket.gethostname()} {os.getppid()}"  # torchrun itself, which survives the restart
        # only the node whose process died counts a restart
        launches[f"torchrun {launch}"] = several_nodes or int(env.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    if REPEAT in env:
        launches[f"repeat {env[REPEAT]}"] = True
    return launches


def renew_store() -> None:
    """Give processes that torchrun has restarted on one node a new rendezvous store.

    torchrun keeps one store for all restarts, in which a process may find the address of a dead one and fail to
    connect to it (pytorch/pytorch#135712, in torch 2.14 with gloo). Several nodes count restarts differently, so there
    they have no key in common.
    """
    env = os.environ
    restarts = int(env.get("TORCHELASTIC_RESTART_COUNT", 0))
    if restarts == 0 or env.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or env["GROUP_WORLD_SIZE"] != "1":
        return
    used = TCPStore(env["MASTER_ADDR"], int(env["MASTER_PORT"]))
    key = f"leyden/port/{restarts}"
    if env["RANK"] == "0":
        used.set(key, str(find_free_network_port()))
    env["MASTER_PORT"] = used.get(key).decode()  # waits until it is set
    env["TORCHELASTIC_USE_AGENT_STORE"] = "False"
