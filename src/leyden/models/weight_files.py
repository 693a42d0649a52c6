"""Read files of weights without running code, and compare weights with those of a network."""

import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from leyden.errors import UserError


def read_file(path: Path, otherwise: str = "holds no weights") -> Any:
    """Read what `torch.save` has written with `weights_only=True`, so that no code in the file can run.

    The file's checksums are verified first: a zip archive has a CRC-32 per entry. Files from before torch 1.6 are no
    archives and have none.

    Args:
        path: The file.
        otherwise: What is wrong with the file if it is not damaged, for the message.

    Raises:
        UserError: The file is damaged, or is not made of tensors and plain values alone.
    """
    try:
        with path.open("rb") as file:
            is_archive = file.read(2) == b"PK"
        if is_archive:
            with zipfile.ZipFile(path) as archive:
                if part := archive.testzip():
                    raise zipfile.BadZipFile(f"the checksum of {part} is wrong")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except Exception as error:  # zipfile and torch raise many types for a file that is not theirs
        # torch's own message recommends `weights_only=False`
        foreign = isinstance(error, pickle.UnpicklingError)
        reason = "not made of tensors and plain values alone" if foreign else first_line(error)
        raise UserError(f"{path} is damaged or {otherwise} ({reason})") from error


def weights_in(content: Any, source: str | Path) -> dict[str, Tensor]:
    """Return the tensors by name of what a file holds: a state_dict, or a checkpoint with one as `state_dict`.

    A checkpoint with averaged weights has those there. The names that `torch.compile` adds are removed.

    Raises:
        UserError: There are none.
    """
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    pairs = state.items() if isinstance(state, dict) else ()
    if not pairs or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in pairs):
        raise UserError(f"{source} holds no state_dict (tensors by name) and is no checkpoint")
    return {name.replace("_orig_mod.", ""): tensor for name, tensor in pairs}


def check_fit(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], title: str, fix: str = "") -> None:
    """Compare the names and shapes of weights with those that a network has.

    Batch-norm's counters of batches may be missing, as older files lack them.

    Args:
        weights: The weights.
        own: Those of the network.
        title: Begin of the message.
        fix: End of the message.

    Raises:
        UserError: They differ; the first few are named.
    """
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    problems = {
        "missing": own.keys() - weights.keys() - counters,
        "unknown": weights.keys() - own.keys(),
        "of another shape": {
            f"{name} {_size(weights[name])} for {_size(own[name])}"
            for name in own.keys() & weights.keys()
            if own[name].shape != weights[name].shape
        },
    }
    if any(problems.values()):
        listed = "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in problems.items() if names)
        raise UserError(f"{title}: {listed}{fix}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return str(error).partition("\n")[0]


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:4]) + (", ..." if len(names) > 4 else "")


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"
