"""leyden: a PyTorch Lightning starter project."""

from importlib.metadata import version
from pathlib import Path

__version__ = version("leyden")

PROJECT = Path(__file__).resolve().parents[2]  # the folder that holds configs/, data/ and this src/
