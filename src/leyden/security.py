"""What a configuration or a checkpoint may not do: run foreign code, hide a key in a file, say a thing twice.

`SECURITY.md` says what is promised and which test holds it.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

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
SECRETS = {  # what they are called, and what they look like wherever they stand
    "a W&B API key": r"\bwandb_v\d+_\w{16,}",
    "a GitHub token": r"\b(gh[oprsu]_[A-Za-z0-9]{30,}|github_pat_\w{20,})",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "an API key": r"(?<![\w-])sk-[\w-]{20,}",
    "an AWS key": r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
    "a Google API key": r"\bAIza[\w-]{35}",
    "a Slack token": r"\bxox[abeprs]-[\w-]{10,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a bearer token": r"(?i:bearer)\s+[\w.~+/-]{20,}",
    "a JSON web token": r"\beyJ[\w-]{10,}\.[\w-]{10,}\.",
    "an address with a password": r"://[^/\s:@]+:[^/\s@]+@",
}
# W&B's older keys are 40 hexadecimal digits, as is a git commit: such a value is refused where it stands alone, unless
# its key says that it is a checksum or a commit. Checksums of other lengths (md5, sha256) are never taken for keys.
HEX_KEY = re.compile(r"(?<![\w./-])(local-)?[0-9a-f]{40}(?![\w./-])")
CHECKSUM_NAME = re.compile(r"(^|[._])(commit|sha1?|rev|revision|hash|digest|checksums?)([._]|$)", re.IGNORECASE)


def restrict_imports() -> None:
    """Let configurations and checkpoints import the allowed packages only, in the whole process."""
    jsonargparse.set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=ALLOWED_PACKAGES)


def check_environment() -> None:
    """Refuse an environment in which torch would run the code in a checkpoint.

    Raises:
        UserError: It is such a one.
    """
    name = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    if os.environ.get(name, "0").lower() in ("1", "y", "yes", "true"):  # what torch takes for true
        raise UserError(f"{name} lets a checkpoint run code: `unset {name}`")


def check_words(words: Iterable[str]) -> None:
    """Refuse flags that hold a key or token, name an address as checkpoint, or let code in checkpoints run.

    Args:
        words: The words after `leyden`, before anything parses them and could print them in an error.

    Raises:
        UserError: There is such a flag.
    """
    _environment_secrets.cache_clear()
    key = ""
    for word in words:
        value = word
        if word.startswith("-"):
            name, _, value = word.partition("=")
            key = name.lstrip("-")
            for text in (name, key):  # a private key begins with dashes itself
                _check_secret("the command line", "", text)
        _check_secret("the command line", key, value)
        if key == "ckpt_path" and "://" in value:
            raise UserError("--ckpt_path takes no address: download the file, and give its path")
        check_yaml(value, "the command line")


def check_loading(config: jsonargparse.Namespace, has_checkpoint: bool) -> None:
    """Refuse a configuration that names a checkpoint itself or lets code in checkpoints run.

    Args:
        config: The resolved configuration of the subcommand.
        has_checkpoint: Whether the command line names a checkpoint, which wins over the configuration and was checked.

    Raises:
        UserError: It does.
    """
    if config.weights_only is not True:
        raise UserError(f"weights_only is {config.weights_only}, which lets a checkpoint run code: leave it out")
    if config.ckpt_path is not None and not has_checkpoint:
        raise UserError("a configuration names ckpt_path: take it out, and give --ckpt_path on the command line")


def check_file(path: str) -> None:
    """Refuse a configuration file that is not YAML, has a key twice or holds a secret.

    A file that cannot be read is passed over: the parser says what is wrong with it.

    Raises:
        UserError: There is something to refuse.
    """
    with suppress(OSError, UnicodeDecodeError):
        text = Path(path).read_text(encoding="utf-8")
        try:
            _check_nodes(text, path)
        except yaml.MarkedYAMLError as error:  # the parser would not name the file
            mark, problem, lines = error.problem_mark, error.problem, text.splitlines()
            line = min(mark.line if mark is not None else 0, len(lines) - 1)  # it may be behind the last one
            if "\t" in lines[line]:
                problem = "a tab, where YAML wants spaces"
            raise UserError(f"{path}, line {line + 1}: {problem}") from error


def check_yaml(text: str, place: str) -> None:
    """Refuse YAML in which a mapping has a key twice, or something looks like a secret.

    Args:
        text: The YAML; what is none is left alone.
        place: Where it is from, for the message.

    Raises:
        UserError: It has.
    """
    with suppress(yaml.YAMLError):  # the parser says what is wrong with it
        _check_nodes(text, place)


def _check_nodes(text: str, place: str) -> None:
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    for key, value in _pairs(root, place):
        _check_secret(place, key, value)


def _pairs(root: yaml.Node | None, place: str) -> Iterator[tuple[str, str]]:
    """Yield each scalar with its dotted key, and each key with that of its mapping."""
    todo = [("", root)]
    seen: set[int] = set()
    while todo:
        path, node = todo.pop()
        if node is None or id(node) in seen:  # an alias may point at what holds it
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
                raise UserError(f"{place}: key `{name}` stands in line {lines[name]} and again in line {line}")
            lines[name] = line
            todo.append((f"{path}.{name}".lstrip("."), value))


def _check_secret(place: str, key: str, value: str) -> None:
    """Refuse a value that looks like a secret, or whose key says that it is one, and never print it."""
    name = key.rpartition(".")[2]
    kind = _kind_of_secret(key, value)
    if kind is None and SECRET_NAME.search(name) and value not in ("", "null", "true", "false"):
        kind = "a secret, by its name"
    if kind is not None:
        where = f"{place}: {key}" if key else place
        raise UserError(
            f"{where} holds what looks like {kind}, which would be written into the run: take it out, and "
            "keep it in an environment variable, such as WANDB_API_KEY"
        )


def _kind_of_secret(key: str, value: str) -> str | None:
    for kind, pattern in SECRETS.items():
        if re.search(pattern, value):
            return kind
    if HEX_KEY.search(value) and not CHECKSUM_NAME.search(key):
        return "a W&B API key (40 hexadecimal digits; a key that names a commit or checksum may have them)"
    for name, secret in _environment_secrets().items():
        if secret in value:
            return f"the value of {name}"
    return None


@cache
def _environment_secrets() -> dict[str, str]:
    """Return the environment variables that hold a secret by their name, and one long enough to be one."""
    return {name: text for name, text in os.environ.items() if SECRET_NAME.search(name) and len(text) >= 16}


def _strict_loader(text: str) -> Any:
    """Load YAML as jsonargparse does, after checking it: every file and every flag comes through here."""
    check_yaml(text, "a configuration")
    return _loader(text)


_loader = jsonargparse.get_loader("yaml")
jsonargparse.set_loader("yaml", _strict_loader, exceptions=(yaml.YAMLError,))
