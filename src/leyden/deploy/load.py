"""Load a checkpoint or an exported model as a predictor: `leyden.load`."""

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningDataModule

from leyden.checkpoints.find import find_checkpoint
from leyden.checkpoints.io import read_checkpoint
from leyden.deploy.extras import require
from leyden.deploy.predictor import Predictor
from leyden.errors import UserError
from leyden.models.task import Task
from leyden.runs.directory import RUNS
from leyden.security import check_environment, restrict_imports


def load(path: str | Path, device: str = "cpu") -> Predictor:
    """Load a trained model with the preprocessing of its data.

    No code in the file is run, and it can name classes of the allowed packages only. Nothing else is read: no data, no
    pretrained weights.

    Args:
        path: A checkpoint of `leyden fit`, a run's directory (its best.ckpt), or `best` or `last` of the newest run; or
            what `leyden export` has written, an ONNX file (NAME.onnx) or the folder of `config.json` and
            `model.safetensors`.
        device: Where to compute, such as `cpu` or `cuda`; an ONNX file is computed on the CPU.

    Returns:
        The predictor. `predict` takes files, images or arrays; `network` is the plain network, except of an ONNX file.

    Raises:
        UserError: There is no such checkpoint, or it is not one from which predictions can be made.
    """
    check_environment()
    if Path(path).suffix == ".onnx":
        return _load_onnx(Path(path), device)
    if (Path(path) / "config.json").is_file():
        return _load_safetensors(Path(path), device)
    file = find_checkpoint(str(path), Path(RUNS), None, "best")
    return make_predictor(file, read_checkpoint(file), device)


def make_predictor(file: Path, checkpoint: dict[str, Any], device: str | torch.device = "cpu") -> Predictor:
    """Return the predictor of a checkpoint.

    Args:
        file: The file, or a folder that holds the model in another form.
        checkpoint: The content of the file, or what the folder holds as that of a checkpoint.
        device: Where to compute.

    Raises:
        UserError: Its model or data are missing, cannot be constructed, or predict nothing.
    """
    model, data = load_parts(file, checkpoint)
    return Predictor(model, data, checkpoint["config"].get("trainer", {}).get("precision"), device)


def load_parts(file: Path, checkpoint: dict[str, Any]) -> tuple[Task, Any]:
    """Return the model of a checkpoint, and its DataModule, of which nothing is loaded; None if it names none.

    Args:
        file: The file.
        checkpoint: Its content.

    Raises:
        UserError: Its model or data are missing, or cannot be constructed.
    """
    restrict_imports()
    config: dict[str, Any] = checkpoint.get("config", {})
    class_path = checkpoint.get("hyper_parameters", {}).get("_class_path")
    if not config or class_path is None:
        raise UserError(
            f"{file} does not name its model and data, as checkpoints of `leyden fit` do: load it in Python, by "
            "load_from_checkpoint of its class"
        )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=type[Task])
    parser.add_subclass_arguments(LightningDataModule, "data", fail_untyped=False)
    parts = {"model": class_path} | ({"data": config["data"]} if config.get("data") else {})
    try:
        parsed = parser.parse_object(parts)
        data = parser.instantiate(parsed).data if "data" in parts else None
        # the averaged weights, if there are any, are those in `state_dict`
        source = file if file.is_file() else _as_file(checkpoint)
        model = parsed.model.load_from_checkpoint(source, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # whatever the types and constructors of its classes raise
        raise UserError(f"{file}: its model or data cannot be constructed ({_innermost(error)})") from error
    return model, data


def _load_onnx(file: Path, device: str) -> Predictor:
    require("export", "onnx", "onnxruntime")
    from leyden.deploy.onnx_predictor import OnnxPredictor  # only here: its packages are those of an extra

    if device != "cpu":
        raise UserError(f"{file} is computed on the CPU, not on {device}: leave the device out")
    return OnnxPredictor(file)


def _load_safetensors(folder: Path, device: str) -> Predictor:
    require("export", "safetensors")
    from leyden.deploy.export.safetensors_file import read_safetensors  # only here: it belongs to an extra

    return make_predictor(folder, read_safetensors(folder), device)


def _as_file(checkpoint: dict[str, Any]) -> BytesIO:
    """Return a file in memory with the content of a checkpoint, from which Lightning constructs the model."""
    file = BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    return file


def _innermost(error: BaseException) -> str:
    """Return in one line the first cause of an error, which jsonargparse wraps once for each level of nesting."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())
