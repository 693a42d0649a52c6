"""What configurations and checkpoints may not do: run foreign code, contain secrets, repeat a key.

`SECURITY.md` states what is promised and which test holds each promise.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import jsonargparse
import yaml

from leyden.errors import UserError

# What a configuration or a checkpoint may import. A fork adds its own packages here.
ALLOWED_PACKAGES = [
    "leyden",
    "lightning.pytorch",
    "torch.nn",
    "torch.optim",
    "torch.utils.data",
    "torchmetrics",
    "torchvision",
]

SECRET_NAME = re.compile(
    r"(^|_)(api_?key|access_?key|private_?key|password|passwd|secret|credentials?|"
    r"(access|api|auth|bearer|refresh|hf|github|gitlab|wandb)_token)$|^token$",  # a model may have a `pad_token`
    re.IGNORECASE,
)
WANDB_KEY = re.compile(r"\bwandb_v\d+_\w{16,}")
# Older W&B keys are 40 hexadecimal digits, like a git commit: such a value is refused unless the name of its key says
# that it is a checksum or a commit. Checksums of other lengths (md5, sha256) are accepted.
HEX_KEY = re.compile(r"(?<![\w./-])(local-)?[0-9a-f]{40}(?![\w./-])")
CHECKSUM_NAME = re.compile(r"(^|[._])(commit|sha1?|rev|revision|hash|digest|checksums?)([._]|$)", re.IGNORECASE)


def restrict_imports() -> None:
    """Let configurations and checkpoints import from `ALLOWED_PACKAGES` only, in this process from now on."""
    jsonargparse.set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=ALLOWED_PACKAGES)


def check_environment() -> None:
    """Refuse an environment variable with which torch would run the code in a checkpoint.

    Raises:
        UserError: It is set.
    """
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    if os.environ.get(name, "0").lower() in ("1", "y", "yes", "true"):  # what torch reads as true
        raise UserError(f"{name} lets a checkpoint run code: `unset {name}`")


def check_command(args: Iterable[str]) -> None:
    """Refuse flags that hold a key or token, name an address as checkpoint, or let code in checkpoints run.

    Args:
        args: The arguments of `leyden`, before anything parses them and could print them in an error.

    Raises:
        UserError: A flag is refused; the message does not repeat a secret.
    """
    _environment_secrets.cache_clear()
    key = ""
    for arg in args:
        value = arg
        if arg.startswith("-"):
            name, _, value = arg.partition("=")
            key = name.lstrip("-")
            for text in (name, key):  # a secret may begin with dashes
                _check_secret("the command line", "", text)
        _check_secret("the command line", key, value)
        if key == "ckpt_path" and "://" in value:
            raise UserError("--ckpt_path takes no address: download the file, and give its path")
        check_yaml(value, "the command line")


def check_loading(config: jsonargparse.Namespace) -> None:
    """Refuse a configuration that names a checkpoint itself or lets code in checkpoints run.

    Args:
        config: The resolved configuration of the subcommand.

    Raises:
        UserError: The configuration is refused.
    """
    if config.weights_only is not True:
        raise UserError(f"weights_only is {config.weights_only}, which lets a checkpoint run code: leave it out")
    if config.ckpt_path is not None:
        raise UserError("a configuration names ckpt_path: remove it, and give --ckpt_path on the command line")


def check_file(path: str) -> None:
    """Refuse a configuration file that is not YAML, has a duplicate key or contains a secret.

    A file that cannot be read is ignored here: the parser reports it.

    Raises:
        UserError: The file is refused.
    """
    with suppress(OSError, UnicodeDecodeError):
        text = Path(path).read_text(encoding="utf-8")
        try:
            _check_nodes(text, path)
        except yaml.MarkedYAMLError as error:  # the parser would not name the file
            mark, problem, lines = error.problem_mark, error.problem, text.splitlines()
            line = min(mark.line if mark is not None else 0, len(lines) - 1)  # it may be after the last line
            if "\t" in lines[line]:
                problem = "a tab, where YAML requires spaces"
            raise UserError(f"{path}, line {line + 1}: {problem}") from error


def check_yaml(text: str, place: str) -> None:
    """Refuse YAML with a duplicate key, or with a value that looks like a secret.

    Args:
        text: The YAML; other text is ignored.
        place: Its source, for the message.

    Raises:
        UserError: The YAML is refused.
    """
    with suppress(yaml.YAMLError, UnicodeEncodeError):  # the parser reports it; a file may have any bytes as its name
        _check_nodes(text, place)


def _check_nodes(text: str, place: str) -> None:
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for key, value in _pairs(root, place):
        _check_secret(place, key, value)


def _pairs(root: yaml.Node | None, place: str) -> Iterator[tuple[str, str]]:
    """Yield each scalar with its dotted key, and each key with the dotted key of its mapping."""
    todo = [("", root)]
    seen: set[int] = set()
    while todo:
        path, node = todo.pop()
        if node is None or id(node) in seen:  # an alias may point at a node that contains it
            continue
        if isinstance(node, yaml.ScalarNode):
            yield path, "" if node.tag.endswith((":null", ":bool")) else node.value
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += [(path, item) for item in node.value]
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            yield path, name
            if name in lines:
                raise UserError(f"{place}: duplicate key `{name}`, in lines {lines[name]} and {line}")
            lines[name] = line
            todo.append((f"{path}.{name}".lstrip("."), value))


def _check_secret(place: str, key: str, value: str) -> None:
    """Refuse a value that looks like a secret or whose key is named like one, without printing it."""
    name = key.rpartition(".")[2]
    kind = _kind_of_secret(key, value)
    if kind is None and SECRET_NAME.search(name) and value not in ("", "null", "true", "false"):
        kind = "a secret, by its name"
    if kind is not None:
        where = f"{place}: {key}" if key else place
        raise UserError(
            f"{where} contains what looks like {kind}, which would be written into the run: remove it, and "
            "keep it in an environment variable, such as WANDB_API_KEY"
        )


def _kind_of_secret(key: str, value: str) -> str | None:
    if WANDB_KEY.search(value):
        return "a W&B API key"
    if HEX_KEY.search(value) and not CHECKSUM_NAME.search(key):
        return "a W&B API key (40 hexadecimal digits; a key that names a commit or checksum may have them)"
    for name, secret in _environment_secrets().items():
        if secret in value:
            return f"the value of {name}"
    return None


@cache
def _environment_secrets() -> dict[str, str]:
    """Return the environment variables that are named like a secret and have at least 16 characters."""
    return {name: text for name, text in os.environ.items() if SECRET_NAME.search(name) and len(text) >= 16}
