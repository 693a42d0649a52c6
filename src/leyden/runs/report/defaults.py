"""Find the default of each option of a configuration, without importing the classes that it names.

The classes are those of torch and Lightning, whose import takes seconds; the source of a class says its defaults.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from leyden import PROJECT
from leyden.runs.flat_config import flat
from leyden.runs.stored_config import flat_strings

Default = tuple[bool, Any]  # whether there is one, and it

# where the options that belong to no class of the configuration are declared
GROUPS = {
    "trainer": "lightning.pytorch.trainer.trainer.Trainer",
    "wandb": "leyden.runs.wandb.WandbOptions",
    "checkpoint": "leyden.checkpoints.last_checkpoint.LastCheckpoint",
}


def default_options(config: Mapping[str, Any]) -> dict[str, str | None]:
    """Return {option: default}, in the form of `stored_config.read_config`; None for an option that has no default.

    Options whose default the source does not say as a plain value are missing.

    Args:
        config: The resolved configuration of a run.
    """
    classes = {
        option.removesuffix(".class_path"): value
        for option, value in flat(config, split_lists=True).items()
        if option.endswith(".class_path")
    }
    defaults: dict[str, str | None] = {}
    for prefix, class_path in (GROUPS | classes).items():
        for name, (has_default, value) in class_defaults(str(class_path)).items():
            defaults |= flat_strings({f"{prefix}.{name}": value}) if has_default else {f"{prefix}.{name}": None}
    shared = PROJECT / "configs" / "defaults.yaml"
    return defaults | flat_strings(yaml.safe_load(shared.read_text(encoding="utf-8")) if shared.exists() else {})


def class_defaults(class_path: str) -> dict[str, Default]:
    """Return {argument: its default} of a class, with those that it passes on to its bases by `**kwargs`."""
    module, _, name = class_path.rpartition(".")
    return dict(_arguments(*found)) if (found := _find(module, name)) else {}


def _arguments(module: str, node: ast.AST) -> Iterator[tuple[str, Default]]:
    """Yield the arguments of a class, those of its bases first."""
    if not isinstance(node, ast.ClassDef):
        return
    init = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    if init is None or init.args.kwarg:
        for base in node.bases:
            if isinstance(base, ast.Name) and (found := _find(module, base.id)):
                yield from _arguments(*found)
    pairs: list[tuple[str, ast.expr | None]]
    if init is None:  # a dataclass
        fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
        pairs = [(ast.unparse(field.target), field.value) for field in fields]
    else:
        names = [arg.arg for arg in (*init.args.posonlyargs, *init.args.args)][1:]
        pairs = [(name, None) for name in names[: len(names) - len(init.args.defaults)]]
        pairs += zip(names[len(pairs) :], init.args.defaults, strict=True)
        pairs += [(arg.arg, value) for arg, value in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)]
    for name, value in pairs:
        if value is None:
            yield name, (False, None)
        else:
            for plain in _plain(module, value):
                yield name, (True, plain)


def _plain(module: str, value: ast.expr) -> Iterator[Any]:
    """Yield the value of an expression, a class as its name; nothing if it is not plain."""
    try:
        plain = ast.literal_eval(value)
        yield list(plain) if isinstance(plain, tuple) else plain
    except ValueError:
        if isinstance(value, ast.Attribute) and value.attr[:1].isupper():
            yield value.attr
        elif isinstance(value, ast.Name) and (found := _find(module, value.id)):
            if isinstance(found[1], ast.ClassDef):
                yield found[1].name
            elif isinstance(found[1], ast.Assign):
                yield from _plain(found[0], found[1].value)
        elif isinstance(value, ast.Call) and ast.unparse(value) == "field(default_factory=list)":
            yield []


@cache
def _find(module: str, name: str, seen: frozenset[str] = frozenset()) -> tuple[str, ast.AST] | None:
    """Return the class or assignment of a name, and the module that has it, through the imports of modules.

    Args:
        module: The module to look in.
        name: The name.
        seen: Modules that have been looked in: two may import from each other.
    """
    if module in seen:
        return None
    seen |= {module}
    for node in _body(module):
        match node:
            case ast.ClassDef() if node.name == name:
                return module, node
            case ast.Assign(targets=[ast.Name(id=target)]) if target == name:
                return module, node
            case ast.ImportFrom():
                package = _absolute(module, node)
                for alias in node.names:
                    if alias.name == "*" and (found := _find(package, name, seen)):
                        return found
                    if (alias.asname or alias.name) == name:
                        return _find(package, alias.name, seen)
    return None


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """Return the module that an import names."""
    parts = module.split(".")
    drop = node.level - (_file(module).name == "__init__.py")
    return ".".join([*(parts[: len(parts) - drop] if node.level else []), *filter(None, [node.module])])


def _body(module: str) -> list[ast.stmt]:
    """Return the statements of a module, none if it cannot be found or read."""
    try:
        return ast.parse(_file(module).read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, ValueError):
        return []


def _file(module: str) -> Path:
    """Return the file of a module, which may not exist."""
    top, *rest = module.split(".")
    spec = find_spec(top) if top.isidentifier() else None
    origin = Path((spec and spec.origin) or "/nowhere")
    if not rest:
        return origin
    folder = origin.parent.joinpath(*rest)
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
