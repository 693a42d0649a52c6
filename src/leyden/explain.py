"""Command-line errors in one line: which key, what is wrong with it, and the nearest right name."""

import importlib
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Sampler

BASES = (LightningModule, LightningDataModule, Callback, Logger, Optimizer, LRScheduler, Sampler)


def explain(message: str, options: Iterable[str]) -> str:
    """Turn jsonargparse's report into one line.

    Args:
        message: The report. It names a `Parser key "..."` for every level of nesting, and then says of each type
            that the key may have why the value is not of it.
        options: The options that exist, with dots: `trainer.max_epochs`.

    Returns:
        The line; the report's own first line where it is of no known kind.
    """
    key = ".".join(re.findall(r'Parser key "([\w.]+)"', message))
    if found := re.search(r"unrecognized arguments: (\S+)|Subcommand .* does not accept option '(\S+)'", message):
        name = (found[1] or found[2]).partition("=")[0]
        return f"unknown option `{name}`{_nearest(name.lstrip('-'), options)}"
    if found := re.search(r"Option '([\w.]+)' is not accepted", message):
        owner = re.findall(r"class_path[= ]'([\w.]+)'", message[: found.start()] + message[found.end() :])
        owners = [path for path in owner if found[1] not in arguments(path)]
        path = owners[-1] if "optimizer" in key or "scheduler" in key else owners[0]
        name = path.rpartition(".")[2]
        return f"{key}: {name} has no argument `{found[1]}`{_nearest(found[1], arguments(path))}"
    if found := re.search(r"Importing '([\w.]+)' is not allowed", message):
        return f"{key}: `{found[1]}` may not be imported; what may is listed in ALLOWED_PACKAGES of leyden/security.py"
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message):
        nearest = _nearest(found[2], dir(importlib.import_module(found[1])))
        return f"{key}: there is no `{found[2]}` in {found[1]}{nearest}"
    if found := re.search(r"Expected a dot import path string: (\S+)", message):
        return f"{key}: there is no class `{found[1]}`{_nearest(found[1], _class_names())}"
    if found := re.search(r"required: (.*)", message):
        return f"{found[1]} missing: name an experiment, such as --config configs/convnet_digits.yaml"
    if found := re.search(r"File does not exist: '(.*)'", message):
        path = Path(found[1])
        return f"there is no file {path}{_nearest(path.name, [file.name for file in path.parent.glob('*.yaml')])}"
    if kinds := re.findall(r"Expected an? (.+)", message):
        value = re.findall(r"(?:Got|Given) value: (.*)", message)[0]
        wanted = " or ".join(kind for kind in map(_readable, kinds) if kind != "NoneType")
        return f"{key} is {value}, but wants {wanted}"
    return " ".join(message.split())


def _nearest(name: str, candidates: Iterable[str]) -> str:
    """Say which candidate may have been meant; `max_epochs` also means `trainer.max_epochs`."""
    full = {candidate.rpartition(".")[2]: candidate for candidate in candidates}
    full |= {candidate: candidate for candidate in full.values()}
    matches = (
        get_close_matches(name, full.values(), n=1, cutoff=0.8)
        or get_close_matches(name, full, n=1)
        or get_close_matches(name.rpartition(".")[2], full, n=1)
    )
    return f"; did you mean `{full[matches[0]]}`?" if matches else ""


def arguments(class_path: str) -> list[str]:
    """Return the names of a class's arguments, also those that its `**kwargs` lead to."""
    module, _, name = class_path.rpartition(".")
    added = ArgumentParser().add_class_arguments(getattr(importlib.import_module(module), name), "x")
    return [argument.removeprefix("x.") for argument in added]


def _class_names() -> set[str]:
    """Return the short names of all classes that a configuration may want."""
    found: set[str] = set()
    todo: list[type] = list(BASES)
    while todo:
        subclasses: list[type] = todo.pop().__subclasses__()
        found |= {subclass.__name__ for subclass in subclasses}
        todo += subclasses
    return found


def _readable(kind: str) -> str:
    """Shorten `<class 'int'>` to int and a Literal to its values."""
    kind = re.sub(r"<class '(?:\w+\.)*(\w+)'>.*", r"\1", kind)
    return re.sub(r"typing\.Literal\[(.*)\].*", r"one of \1", kind)
