"""The defaults that are read from sources are those of the imported classes."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from leyden.runs.report.defaults import class_defaults, default_options


def signature_defaults(module: str, names: list[str]) -> dict[str, Any]:
    """The defaults that Python itself knows, of a class and the bases to which it passes its arguments."""
    found: dict[str, Any] = {}
    for name in names:
        found |= {
            key: value.default
            for key, value in inspect.signature(getattr(import_module(module), name).__init__).parameters.items()
            if value.kind is value.POSITIONAL_OR_KEYWORD or value.kind is value.KEYWORD_ONLY
        }
    found.pop("self")
    return found


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("torch.optim", ["SGD"]),  # imported into the package by name
        ("torch.nn", ["LeakyReLU"]),  # by star
        ("torch.optim.lr_scheduler", ["CosineAnnealingLR"]),
        ("lightning.pytorch", ["Trainer"]),
        ("lightning.pytorch.callbacks", ["ModelCheckpoint"]),
        ("leyden.callbacks.worst_predictions", ["WorstPredictions"]),
    ],
)
def test_defaults_are_those_of_the_signature(module: str, names: list[str]) -> None:
    found = class_defaults(f"{module}.{names[0]}")
    expected = signature_defaults(module, names)
    assert list(found) == list(expected)
    for name, default in expected.items():
        if default is inspect.Parameter.empty:
            assert found[name] == (False, None)
        else:
            assert found[name] == (True, default)


def test_arguments_that_are_passed_on_to_a_base_are_found() -> None:
    found = class_defaults("leyden.models.conv_net.ConvNet")
    assert found["dropout"] == (True, 0.5)
    assert found["activation"] == (True, "ReLU")
    assert found["label_smoothing"] == (True, 0.0)  # of Classifier
    assert found["metrics"] == (True, [])
    assert found["lr_interval"] == (True, "epoch")  # of Task
    assert found["optimizer"] == (True, "Adam")


def test_a_constant_counts_as_its_value() -> None:
    from leyden.data.digits import DIGITS_MEAN

    assert class_defaults("leyden.data.digits.DigitsDataModule")["mean"] == (True, DIGITS_MEAN)


@pytest.mark.parametrize(
    "name", ["nowhere.at_all.Thing", "leyden.nothing.Thing", "Thing", "..", "", "os.path.join", "__main__.X"]
)
def test_a_class_without_a_source_has_no_defaults(name: str) -> None:
    assert class_defaults(name) == {}


def test_the_shared_defaults_win_over_those_of_the_classes() -> None:
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"lr": 1}}
    found = default_options({"model": {"class_path": "leyden.models.mlp.MLP", "init_args": {"optimizer": sgd}}})
    assert found["trainer.max_epochs"] == "10"  # Trainer's own is None
    assert found["trainer.precision"] == "null"
    assert found["trainer.callbacks.ModelCheckpoint.filename"] == "best"
    assert found["model.optimizer.momentum"] == "0"
    assert found["wandb.tags"] == "[]"


def test_modules_that_import_from_each_other_do_not_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leyden_test_one.py").write_text(
        "from leyden_test_two import *\nclass A:\n  def __init__(self, x=1): 0"
    )
    (tmp_path / "leyden_test_two.py").write_text("from leyden_test_one import *\nfrom leyden_test_one import B")
    monkeypatch.syspath_prepend(tmp_path)
    assert class_defaults("leyden_test_two.A") == {"x": (True, 1)}
    assert class_defaults("leyden_test_two.B") == {}
