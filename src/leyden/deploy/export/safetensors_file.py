"""Weights as safetensors, and beside them the `config.json` from which `leyden.load` rebuilds the model."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from leyden.durable import replacing
from leyden.errors import UserError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MAX_BYTES = 2**24  # of config.json, 16 MB
PARTS = {"hyper_parameters": dict, "config": dict, "pytorch-lightning_version": str, "weights_sha256": str}
CONFIG_PARTS: dict[str, Any] = {"data": dict | None, "trainer": dict}


def write_safetensors(checkpoint: Mapping[str, Any], metadata: Mapping[str, str], folder: Path) -> None:
    """Write `model.safetensors` and `config.json`.

    Args:
        checkpoint: The content of a checkpoint, of `leyden.checkpoints.io.read_checkpoint`.
        metadata: What the files say about themselves: class names, input, licence, ...
        folder: Where to write them; it exists.

    Raises:
        UserError: The checkpoint does not name its model and data, or has values that JSON cannot express.
        OSError: They cannot be written.
    """
    hparams, config = checkpoint.get("hyper_parameters", {}), checkpoint.get("config", {})
    if not config or "_class_path" not in hparams:
        raise UserError("the checkpoint does not name its model and data, as those of `leyden fit` do")
    kept = {name: config.get(name) for name in ("name", "model", "data")}
    # copies: weights that are tied share their memory, which the format does not allow
    tensors = {name: tensor.contiguous().clone() for name, tensor in checkpoint["state_dict"].items()}
    content = safetensors.torch.save(tensors, {"format": "pt"})
    described = {
        "metadata": dict(metadata),
        "hyper_parameters": hparams,
        "config": {**kept, "trainer": {"precision": config.get("trainer", {}).get("precision")}},
        "global_step": checkpoint.get("global_step"),
        "pytorch-lightning_version": checkpoint.get("pytorch-lightning_version"),
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    try:
        text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise UserError(f"an argument of the model or data cannot be written as JSON: {error}") from error
    with replacing(folder / WEIGHTS) as part:
        part.write_bytes(content)
    with replacing(folder / CONFIG) as part:  # the last: it says that the folder is complete
        part.write_text(text, encoding="utf-8")


def read_safetensors(folder: Path) -> dict[str, Any]:
    """Return what a folder of `write_safetensors` holds, as the content of a checkpoint.

    The classes that it names are not imported here.

    Raises:
        UserError: A file is missing or damaged, or is not one of this project.
    """
    try:
        with (folder / CONFIG).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError(f"{CONFIG} has more than 16 MB")
        described = json.loads(text)
        _check(described)
        content = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != described["weights_sha256"]:
            raise ValueError(f"{WEIGHTS} is damaged or is not the file that {CONFIG} describes")
        return {**{name: described[name] for name in PARTS}, "state_dict": safetensors.torch.load(content)}
    except OSError as error:
        raise UserError(f"{folder} is no complete model: cannot read {error.filename} ({error.strerror})") from error
    except (ValueError, RecursionError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} is no model of `leyden export`: {reason}") from error


def _check(described: Any) -> None:
    """Refuse a description without the parts that `leyden.load` reads.

    Raises:
        ValueError: One is missing, or of another type.
    """
    config = described.get("config") if isinstance(described, dict) else None
    for container, types in ((described, PARTS), (config, CONFIG_PARTS)):
        for name, kind in types.items():
            if not isinstance(container, dict) or not isinstance(container.get(name), kind):
                raise ValueError(f"{CONFIG} has no {name}, or one of another type")
