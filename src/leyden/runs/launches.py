"""Runs that SLURM or torchrun starts again go on where they were: `launch.json` says to which launch a run belongs."""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from lightning.fabric.plugins.environments.lightning import find_free_network_port
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from leyden.errors import UserError
from leyden.runs.directory import all_runs, has_checkpoint
from leyden.runs.durable import replacing

LAUNCH = "launch.json"


def record_launch(directory: Path, command: list[str]) -> None:
    """Write down the launch to which a run belongs, if any, and its command, for `restarted_run`.

    Args:
        directory: The run's directory.
        command: The words after `leyden`; one launch may have several commands.
    """
    if launches := _launches():
        with replacing(directory / LAUNCH) as part:
            part.write_text(json.dumps({"launches": list(launches), "command": command}), encoding="utf-8")


def restarted_run(root: Path, command: list[str]) -> Path | None:
    """Return the run that this launch has begun by the same command before it was started again, or None.

    All processes find the same one. A run that has saved no checkpoint yet begins anew.

    Args:
        root: The directory of all runs.
        command: The words after `leyden`.

    Raises:
        UserError: torchrun may start it again on several nodes, without an id that is the same on all of them.
    """
    restarted = {launch for launch, again in _launches().items() if again}
    for run in reversed(all_runs(root)) if restarted else ():
        with suppress(OSError, ValueError):  # most runs have no such file
            record = json.loads((run / LAUNCH).read_text(encoding="utf-8"))
            if record["command"] == command and restarted.intersection(record["launches"]) and has_checkpoint(run):
                return run
    return None


def _launches() -> dict[str, bool]:
    """Return what has started this process, SLURM or torchrun or both, and whether each may have done so before."""
    env, launches = os.environ, {}
    if "SLURM_JOB_ID" in env:
        launches[f"slurm {env['SLURM_JOB_ID']}"] = int(env.get("SLURM_RESTART_COUNT", 0)) > 0
    if "TORCHELASTIC_RUN_ID" in env:
        launch, several_nodes = env["TORCHELASTIC_RUN_ID"], int(env.get("GROUP_WORLD_SIZE", 1)) > 1
        if launch == "none":  # torchrun was given neither --rdzv-id nor --standalone
            if several_nodes and int(env.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0:
                raise UserError(
                    "torchrun --max-restarts on several nodes needs --rdzv-id, a new one for each launch: by it the "
                    "run is found again after a restart"
                )
            launch = f"{socket.gethostname()} {os.getppid()}"  # torchrun itself, which starts its processes again
        # the node whose process has died is the only one that counts a restart
        launches[f"torchrun {launch}"] = several_nodes or int(env.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0
    return launches


def renew_store() -> None:
    """Let the processes that torchrun has started again on one node meet in a new store.

    torchrun keeps one for all restarts, where a process may read the address of one that is dead, and fails to connect
    to it (the fault of pytorch/pytorch#135712, in torch 2.14 with gloo). On several nodes they do not count restarts
    alike, so there is no key on which they could agree.
    """
    env = os.environ
    restarts = int(env.get("TORCHELASTIC_RESTART_COUNT", 0))
    if restarts == 0 or env.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or env["GROUP_WORLD_SIZE"] != "1":
        return
    used = TCPStore(env["MASTER_ADDR"], int(env["MASTER_PORT"]))
    key = f"leyden/port/{restarts}"
    if env["RANK"] == "0":
        used.set(key, str(find_free_network_port()))
    env["MASTER_PORT"] = used.get(key).decode()  # which waits for it
    env["TORCHELASTIC_USE_AGENT_STORE"] = "False"
