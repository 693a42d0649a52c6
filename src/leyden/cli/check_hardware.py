"""Checks against the hardware: devices, precision, nodes, disk space."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Checkpoint

from leyden.checkpoints.last_checkpoint import LastCheckpoint
from leyden.errors import UserError
from leyden.lightning_internals import rendezvous_timeout


def check_hardware(trainer: Trainer, precision: Any) -> None:
    """Refuse more CPU processes than cores, and a precision that the device does not support.

    Args:
        trainer: The Trainer, before it starts anything.
        precision: The requested precision; the Trainer silently replaces one that it does not support.

    Raises:
        UserError: The number of devices or the precision is refused.
    """
    true = ("16-true", "bf16-true", "64-true", "64")
    if wrong := next((name for name in (str(precision), trainer.precision_plugin.precision) if name in true), None):
        raise UserError(f"--trainer.precision {wrong}: inputs have 32 bits, use 32-true or bf16-mixed")
    if not isinstance(trainer.accelerator, CPUAccelerator):
        return
    if str(precision) in ("16", "16-mixed"):
        raise UserError(f"--trainer.precision {precision} needs a GPU; a CPU supports 32-true and bf16-mixed")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if trainer.num_devices > max(cores, 2):  # two processes can be tried on any machine
        raise UserError(
            f"--trainer.devices {trainer.num_devices} would start as many processes, but there are {cores} cores: "
            f"use at most {max(cores, 2)}"
        )


def announce_nodes(trainer: Trainer) -> None:
    """Print where the nodes of a run meet, and how long they wait for each other.

    Raises:
        UserError: No port is given, so each node would choose its own and wait for the others there.
    """
    if trainer.num_nodes == 1:
        return
    environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    if isinstance(environment, LightningEnvironment) and "MASTER_PORT" not in os.environ:
        raise UserError(
            f"--trainer.num_nodes {trainer.num_nodes}, but there is no address where they meet: on each node set "
            "MASTER_ADDR, MASTER_PORT and NODE_RANK (0, 1, ...), or start it by torchrun or srun"
        )
    if trainer.local_rank == 0:
        print(
            f"node {trainer.node_rank} waits at {environment.main_address}:{environment.main_port} until "
            f"{trainer.num_nodes} nodes have joined (--trainer.num_nodes), {rendezvous_timeout(trainer)} "
            "(hours:minutes:seconds) at most",
            flush=True,
        )


def check_disk(trainer: Trainer, model: LightningModule, directory: Path) -> None:
    """Refuse a folder that cannot be written, or has no space for the checkpoints.

    The estimate of a file: the weights, and two numbers for each trained one, as Adam keeps them.

    Raises:
        UserError: The folder is refused.
    """
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    size += 2 * sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    needed: dict[int, int] = {}  # bytes by file system
    savers = (c for c in trainer.callbacks if isinstance(c, (Checkpoint, LastCheckpoint)))  # type: ignore[attr-defined]
    for callback in (None, *savers):
        folder = Path(getattr(callback, "dirpath", None) or directory).absolute()
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=existing):
                free, device = shutil.disk_usage(existing).free, existing.stat().st_dev
        except OSError as error:
            raise UserError(
                f"cannot write to {folder} ({error.strerror}): choose another folder, with --trainer.default_root_dir "
                "or the checkpoint callback's dirpath"
            ) from error
        files = 1  # a new file is complete before it replaces an older one
        if callback is not None:
            kept = getattr(callback, "save_top_k", 2)  # LastCheckpoint has two
            kept = max(trainer.max_epochs or 1, 1) if kept == -1 else kept
            files = kept + bool(getattr(callback, "save_last", None))
        needed[device] = needed.get(device, 0) + files * size
        if free + sum(file.stat().st_size for file in folder.rglob("*.ckpt")) < needed[device]:
            raise UserError(
                f"{existing} has {free / 1e6:.1f} MB free, but the checkpoints may take {needed[device] / 1e6:.1f} MB: "
                "free space, or choose a folder with --trainer.default_root_dir"
            )
