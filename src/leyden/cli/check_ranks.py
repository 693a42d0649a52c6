"""Compare the processes of a run on several nodes before they train: versions, code, configuration and data."""

import inspect
import os
import platform
import zlib
from pathlib import Path

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningDataModule, Trainer

import leyden
from leyden.cli.check_hardware import announce_nodes
from leyden.cli.run import Run
from leyden.data.array_dataset import ArrayDataset
from leyden.data.checksum import checksum
from leyden.errors import UserError
from leyden.lightning_internals import rendezvous_timeout
from leyden.runs.flat_config import flat
from leyden.runs.meeting import JOIN_SECONDS, Facts, Meeting


def meet(trainer: Trainer, run: Run, parts: tuple[object, ...]) -> Meeting | None:
    """Wait for the other processes of the run, and compare versions, code and configuration with theirs.

    Args:
        trainer: The Trainer, before it starts anything.
        run: The run.
        parts: Model and data, whose files are compared too.

    Returns:
        The meeting; None if this process starts all others itself, or was started by one that has met them.

    Raises:
        UserError: A process has not come, or differs from rank 0; or LEYDEN_JOIN_SECONDS is no number.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)  # a single process has none
    by_hand = isinstance(environment, LightningEnvironment)  # which starts the other processes of its node
    rank, count = (trainer.node_rank, trainer.num_nodes) if by_hand else (trainer.global_rank, trainer.world_size)
    announce_nodes(trainer)
    if environment is None or count == 1 or (by_hand and trainer.local_rank > 0):
        return None
    seconds = rendezvous_timeout(trainer).total_seconds() if by_hand else _join_seconds()
    hosts = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    meeting = Meeting((environment.main_address, environment.main_port), rank, count, seconds, hosts)
    meeting.compare("start", _facts(run, parts))
    meeting.seconds = max(meeting.seconds, rendezvous_timeout(trainer).total_seconds())  # some may cache their images
    return meeting


def _join_seconds() -> float:
    text = os.environ.get(JOIN_SECONDS, "50")
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"{JOIN_SECONDS} is {text}, but must be a number of seconds") from error


def compare_data(meeting: Meeting | None, data: LightningDataModule | None) -> None:
    """Compare the splits that have been set up with those of the other processes.

    Raises:
        UserError: A process has other data than rank 0.
    """
    if meeting:
        sets = {name: getattr(data, name, None) for name in ("train_set", "val_set")}
        sums = {name: checksum(split) for name, split in sets.items() if isinstance(split, ArrayDataset)}
        meeting.compare("data", {"data": sums})


def _facts(run: Run, parts: tuple[object, ...]) -> Facts:
    package = Path(leyden.__file__).parent
    files = {str(file.relative_to(package.parent)): file for file in sorted(package.rglob("*.py"))}
    files |= {inspect.getfile(type(part)): Path(inspect.getfile(type(part))) for part in parts if part is not None}
    options = {f"--{name}": value for name, value in flat(run.record).items()}
    return {
        "versions": {
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "leyden": leyden.__version__,
            "Python": platform.python_version(),
        },
        "code": {f"a {name} with checksum": f"{zlib.crc32(file.read_bytes()):08x}" for name, file in files.items()},
        # each node may have its own copy of the data, which are compared later
        "options": {name: value for name, value in options.items() if not name.endswith(".root")},
        "checkpoint": {"a checkpoint of step": run.checkpoint.get("global_step")},
    }
