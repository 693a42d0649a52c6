"""The classes that a configuration may name by their short name; `--model.help` and `--data.help` list some."""

import importlib
import inspect
import pkgutil
import shutil
import textwrap
from itertools import pairwise

from lightning.pytorch import LightningDataModule, LightningModule

import leyden.callbacks
import leyden.checkpoints
import leyden.data
import leyden.models
import leyden.runs

BASES: dict[str, type] = {"model": LightningModule, "data": LightningDataModule}


def import_classes() -> None:
    """Import all modules with classes that a configuration may name: jsonargparse then knows them by short names."""
    for package in (leyden.callbacks, leyden.checkpoints, leyden.data, leyden.models, leyden.runs):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def class_list(args: list[str]) -> str:
    """Return the text for `--model.help` or `--data.help` without a class, empty if the arguments have neither.

    Args:
        args: The arguments of the subcommand.
    """
    for arg, following in pairwise([*args, "--"]):
        kind = arg.removeprefix("--").removesuffix(".help")
        if kind in BASES and arg == f"--{kind}.help" and following.startswith("-"):
            classes = sorted(_concrete(BASES[kind]), key=lambda cls: cls.__name__)
            indent = " " * (4 + max(len(cls.__name__) for cls in classes))
            width = shutil.get_terminal_size().columns
            entries = (
                textwrap.fill(f"  {cls.__name__:<{len(indent) - 2}}{_first_line(cls)}", width, subsequent_indent=indent)
                for cls in classes
            )
            head, foot = (
                f"--{kind} takes one of these, or a class by its path:\n",
                f"\n{arg} NAME shows its arguments.",
            )
            return "\n".join([head, *entries, foot])
    return ""


def _concrete(base: type) -> set[type]:
    """Return this project's subclasses of a base, without those that have subclasses here themselves."""
    found: set[type] = set()
    subclasses: list[type] = base.__subclasses__()
    for cls in subclasses:
        found |= _concrete(cls)
        if _is_ours(cls) and not any(map(_is_ours, cls.__subclasses__())):
            found.add(cls)
    return found


def _is_ours(cls: type) -> bool:
    return cls.__module__.startswith("leyden.")


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]
