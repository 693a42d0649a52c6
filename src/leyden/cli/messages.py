"""Errors of the command line in one line: the key, what is wrong with it, and the nearest valid name."""

import importlib
import inspect
import re
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Sampler

from leyden import PROJECT
from leyden.errors import UserError, did_you_mean
from leyden.runs.directory import short_path

BASES = (LightningModule, LightningDataModule, Callback, Logger, Optimizer, LRScheduler, Sampler)
EXPERIMENT = "configs/convnet_digits.yaml"
# the beginnings of those reports of jsonargparse that wrap another exception; group 1 is a part of the option's name
WRAPPED = re.compile(
    r'Parser key "([\w.]+)"|\s*- Expected a path|Does not validate against|Problem with given class_path|'
    r"Type .* expects a function or a callable class:"
)
CLASS_PROBLEM = re.compile(r"Problem with given class_path '(.+)':\s+(.*)")


def explain(error: BaseException, options: Iterable[str], configs: Sequence[str] = ()) -> str:
    """Turn jsonargparse's report into one line.

    Args:
        error: The report. It wraps the reason once for each level of nesting and each type that a value may have.
        options: All options, with dots: `trainer.max_epochs`.
        configs: The configuration files on the command line.

    Returns:
        The line; the innermost reason unchanged where it is of no known kind.
    """
    keys: list[str] = []
    owner = union = outer = ""  # the class whose arguments are wrong; why a value fits none of several types
    while (found := WRAPPED.match(text := str(error))) and error.__cause__ is not None:
        if found[1] and text != outer:  # an ArgumentError repeats what it wraps
            keys.append(found[1])
        union = text if text.startswith("Does not validate") else ""
        if classes := re.findall(
            r"(?:^Problem with given class_path |Got value: Namespace\(class_path=)'([^']+)'", text
        ):
            owner = classes[-1]
        outer, error = text, error.__cause__
    # the cause of a union's report is the report of its first type; for a list of loggers, another type has the reason
    if re.match("Expected a <|Not a valid subclass", text) and (found := CLASS_PROBLEM.search(union)):
        owner, text = found[1], found[2]
    key = ".".join(keys)
    place = f"{key}: " if key else ""
    if found := re.search(r"unrecognized arguments: (\S+)|Subcommand .* does not accept option '(\S+)'", text):
        name = (found[1] or found[2]).partition("=")[0]
        if found[1] and not name.startswith("-"):
            config = name if Path(name).is_file() else _nearest_config(Path(name))
            fix = f"; did you mean `--config {config}`?" if config else ": write --NAME VALUE"
            return f"`{name}` is not an option{fix}"
        return f"unknown option `{name}`{did_you_mean(name.lstrip('-'), options)}"
    if found := re.search(r"Option '([\w.]+)' is not accepted", text):
        accepted = arguments(owner)
        if found[1] in accepted:  # the class has it, but its value is filled in
            return f"{place}leave `{found[1]}` out, it is filled in"
        return f"{place}{owner.rpartition('.')[2]} has no argument `{found[1]}`{did_you_mean(found[1], accepted)}"
    if found := re.search(r"Importing '([\w.]+)' is not allowed", text):
        if found[1] in [f"lightning.{base.__name__}" for base in BASES]:  # the default where no class is named
            return _missing([key], configs) if key in ("model", "data") else f"{place}no class is named (class_path)"
        return f"{place}`{found[1]}` may not be imported; ALLOWED_PACKAGES in leyden/security.py lists what may"
    if broken := _import_error(error):
        return place + broken
    if found := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", text):
        nearest = did_you_mean(found[2], dir(importlib.import_module(found[1])))
        return f"{place}there is no `{found[2]}` in {found[1]}{nearest}"
    if found := re.search(r"Expected a dot import path string: (\S+)", text):
        return f"{place}there is no class `{found[1]}`{did_you_mean(found[1], _class_names())}"
    if found := re.search(r"Multiple subclasses with name (\w+)\..*: (.*)\.$", text):
        return f"{place}`{found[1]}` may be {found[2].replace(', ', ' or ')}: write one of them in full"
    if found := re.search(r"arguments are required: (.*)", text):
        names = found[1].split(", ")
        if not key:
            return _missing([name.rpartition(".")[2] for name in names], configs)
        needed = " and ".join(f"`{name}`" for name in names)
        flags = " ".join(f"--{key}.{name} VALUE" for name in names)
        return f"{place}{owner.rpartition('.')[2]} needs {needed}: {flags}"
    if found := re.search(r"Import path (\S+) does not correspond to a subclass of (\w+)", text):
        if key == "model" and _is_network(found[1]):
            return f"model: {found[1]} is only a network: --model NetworkClassifier --model.network {found[1]}"
        return f"{place}`{found[1]}` is no {found[2]}"
    if found := re.search(r"File does not exist: '(.*)'", text):
        config = _nearest_config(Path(found[1]))
        return f"there is no file {found[1]}" + (f"; did you mean `{config}`?" if config else "")
    if re.match("Expected an? ", text):
        kinds = re.findall(r"Expected an? (.+)", union or text)
        value = re.findall(r"(?:Got|Given) value: (.*?)(?:\. Got value: .*)?$", union or text, re.MULTILINE)[0]
        wanted = " or ".join(kind for kind in map(_readable, kinds) if not kind.startswith(("NoneType", "dot import")))
        other = f"; did you mean `model.{key}`?" if f"model.{key}" in options else ""
        return f"{key} is {value}, but must be {wanted}{other}"
    return place + " ".join(text.split())


def explain_arguments(error: BaseException, parser: ArgumentParser, configs: Sequence[str]) -> UserError:
    """Return the one-line error for the arguments of a subcommand.

    Args:
        error: The report of jsonargparse.
        parser: The parser of the subcommand.
        configs: The configuration files on the command line.
    """
    options = [*parser.get_defaults().keys(), "model.optimizer.lr"]
    # the class path of the model may be what is wrong, so these are the arguments of any model
    options += [f"model.{name}" for name in arguments("leyden.models.tasks.Classifier")]
    options += [f"data.{name}" for name in arguments("leyden.data.datamodules.ArrayDataModule")]
    return UserError(explain(error, options, configs))


def _import_error(error: BaseException) -> str | None:
    """Return where and why the import of a module failed, None for any other error."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    trace = traceback.extract_tb(error.__traceback__)
    if "import_object" in [frame.name for frame in trace[:-1]]:  # jsonargparse found the module
        return f"{trace[-1].filename}, line {trace[-1].lineno}: {reason(error)}"
    return None


def _missing(names: Sequence[str], configs: Sequence[str]) -> str:
    """Return the line for a missing model or missing data, as when an overlay is given without an experiment."""
    missing = " and ".join(f"no {name}" for name in names)
    if not configs:
        return f"{missing}: name an experiment, such as --config {EXPERIMENT}"
    given = " ".join(f"--config {config}" for config in configs)
    return (
        f"{' and '.join(configs)}: {missing} (class_path), as in an overlay, which follows an experiment: "
        f"--config {EXPERIMENT} {given}"
    )


def _nearest_config(path: Path) -> str | None:
    """Return the configuration file whose name is nearest to that of a missing file."""
    folders = (PROJECT / "configs" / "with", PROJECT / "configs", path.parent)
    files = {file.stem: str(file) for folder in folders for file in folder.glob("*.yaml")}
    matches = get_close_matches(path.stem, files, n=1)
    return short_path(files[matches[0]]) if matches else None


def import_class(path: str) -> Any:
    """Return the class or function with a dotted name, such as `torch.nn.ReLU`."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _is_network(path: str) -> bool:
    """Return whether a name is that of a network, or of a function, which may return one."""
    found = import_class(path)
    return not inspect.isclass(found) or issubclass(found, torch.nn.Module)


def arguments(path: str) -> list[str]:
    """Return the names of the arguments of a class or a function, with those that its `**kwargs` accept."""
    parser, found = ArgumentParser(), import_class(path)
    add = parser.add_class_arguments if inspect.isclass(found) else parser.add_function_arguments
    return [argument.removeprefix("x.") for argument in add(found, "x", fail_untyped=False)]


def _class_names() -> set[str]:
    """Return the short names of all classes that a configuration may name."""
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


def reason(error: BaseException) -> str:
    """Return the message of an exception in one line, after its type where the message alone says too little."""
    said = " ".join(str(error).split())
    has_message = isinstance(error, (ValueError, RuntimeError, OSError, ImportError, MisconfigurationException))
    return said if has_message and said else f"{type(error).__name__}: {said}".removesuffix(": ")
