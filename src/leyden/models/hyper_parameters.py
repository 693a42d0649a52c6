"""Hyper-parameters of a checkpoint as plain data."""

from functools import partial
from typing import Any

from torch import nn


def plain_hyper_parameters(hparams: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a model as a YAML file would hold them, so that a file loads with `weights_only=True`.

    `load_from_checkpoint` turns the class names back into classes. An `nn.Module` among the arguments
    (`NetworkClassifier(network=...)` in Python) is left out: pass it to `load_from_checkpoint`.
    """
    plain = {name: _plain(value) for name, value in hparams.items() if not isinstance(value, nn.Module)}
    return {**plain, "_instantiator": "lightning.pytorch.cli.instantiate_module"}


def _plain(value: Any) -> Any:
    """Turn classes, and partials of classes, into names and arguments."""
    if isinstance(value, partial):
        return {"class_path": _plain(value.func), "init_args": value.keywords}
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
