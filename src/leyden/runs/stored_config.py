"""Read the configurations of finished runs, in the form that is compared and shown."""

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from leyden.errors import UserError
from leyden.runs.flat_config import flat
from leyden.runs.metrics import is_evaluation, read_rows


def read_config(run: Path) -> dict[str, str]:
    """Read a run's `config.yaml` into {option: value}, with classes under their own names.

    Raises:
        UserError: The directory is not that of a training run that has logged something.
    """
    try:
        nested = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{run} is no directory of a run: it has no config.yaml") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{run} has a config.yaml that is no YAML") from error
    if not isinstance(nested, dict):
        raise UserError(f"{run} has a config.yaml that is no configuration")
    try:
        rows = read_rows(run / "metrics.csv")
        if not all(math.isfinite(row.get("epoch", 0)) for row in rows.values()):
            raise ValueError("an epoch is no number")
    except OSError as error:
        raise UserError(f"{run} is no directory of a run: it has no metrics.csv") from error
    except (ValueError, OverflowError, csv.Error) as error:  # no text, or an infinite step
        raise UserError(f"{run} has a metrics.csv that is broken ({error})") from error
    if is_evaluation(run):
        raise UserError(f"{run} is an evaluation, not a training run")
    if not rows:
        raise UserError(f"{run} ended before it logged anything")
    try:
        return flat_strings(nested)
    except (AttributeError, TypeError, RecursionError) as error:  # a class that is no text, an alias of itself
        raise UserError(f"{run} has a config.yaml that is no configuration") from error


def flat_strings(nested: Mapping[str, Any]) -> dict[str, str]:
    """Return {option: value} of a nested configuration, values as on the command line, classes without their module."""
    options = flat(nested, split_lists=True)
    return {option.removesuffix(".class_path"): _short(value) for option, value in options.items()}


def read_configs(paths: Sequence[Path]) -> dict[Path, dict[str, str]]:
    """Read the configurations of the training runs among some paths; print one line about the others.

    Raises:
        UserError: None of them is a training run.
    """
    configs: dict[Path, dict[str, str]] = {}
    skipped: dict[str, UserError] = {}
    for path in paths:
        try:
            configs[path] = read_config(path.absolute())
        except UserError as error:
            skipped[path.absolute().name] = error
    if not configs:
        raise next(iter(skipped.values()))
    if skipped:
        print(f"skipped, as they are no training runs with a metrics.csv: {' '.join(skipped)}", file=sys.stderr)
    return configs


def _short(value: Any) -> str:
    """Return a value as on the command line, classes without their module."""
    text = "null" if value is None else str(value)
    module, _, name = text.rpartition(".")
    return name if module.replace(".", "").replace("_", "").isalpha() and name[:1].isupper() else text
