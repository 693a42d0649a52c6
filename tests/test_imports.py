"""Importing a module of leyden changes nothing outside it."""

import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import pytest

import leyden

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(leyden.__path__, "leyden.")
    if not module.ispkg and module.name != "leyden.__main__"
)

PROBE = """
import atexit, importlib, json, logging, os, random, signal, sys, threading, warnings

def state():
    import jsonargparse, torch
    from jsonargparse._common import parsing_settings
    return {
        "environment": dict(os.environ),
        "signal handlers": {str(number): str(signal.getsignal(number)) for number in signal.valid_signals()},
        "exit handlers": atexit._ncallbacks(),
        "threads": [thread.name for thread in threading.enumerate()],
        "warnings": [str(entry) for entry in warnings.filters],
        "loggers": {name: [str(logging.getLogger(name).filters), str(logging.getLogger(name).handlers)]
                    for name in (None, "lightning", "lightning.pytorch", "lightning.pytorch.utilities.rank_zero")},
        "jsonargparse": [str(parsing_settings), str(jsonargparse.get_loader("yaml"))],
        "torch": [torch.get_num_threads(), str(torch.get_default_dtype())],
        "random numbers": [str(random.getstate()), str(torch.get_rng_state().sum())],
    }

first, then = json.loads(sys.stdin.read())
for name in first:
    try:
        importlib.import_module(name)
    except ImportError:  # a part of another package that only that package can import
        pass
before = state()
for name in then:
    importlib.import_module(name)
after = state()
changed = [name for name in before if before[name] != after[name]]
others = sorted(name for name in sys.modules if not name.startswith("leyden") and name != "__main__")
print(json.dumps([changed, others]))
"""


def changes(first: Iterable[str], then: Iterable[str]) -> Any:
    """What importing `then` after `first` changes in a fresh process, and all other modules imported by then."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], input=json.dumps([[*first], [*then]]), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_importing_every_module_changes_nothing_outside_it() -> None:
    _, others = changes(["torch"], MODULES)
    libraries = [name for name in others if "." not in name or name.startswith(("lightning.", "torch.distributed"))]
    changed, _ = changes(libraries, MODULES)  # what the libraries change when they are imported is not leyden's
    assert changed == []


@pytest.mark.parametrize("module", ["leyden", "leyden.errors", "leyden.cli.parent_watch", "leyden.runs.repeat"])
def test_what_runs_before_torch_does_not_import_it(module: str) -> None:
    code = f"import {module}, sys; print('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
