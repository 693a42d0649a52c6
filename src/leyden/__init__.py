"""leyden: a PyTorch Lightning starter project."""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

__version__ = version("leyden")

PROJECT = Path(__file__).resolve().parents[2]  # the folder that holds configs/, data/ and this src/


def __getattr__(name: str) -> Any:
    """Import `leyden.load` when it is used: it needs torch."""
    if name == "load":
        return import_module("leyden.deploy.load").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
