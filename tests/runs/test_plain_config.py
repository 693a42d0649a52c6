"""A configuration is written so that it reads back as it was."""

from functools import partial
from typing import Any

import jsonargparse
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import Callback, ModelPruning, StochasticWeightAveraging, Timer
from torch import nn

from leyden.errors import UserError
from leyden.runs.plain_config import plain_config

jsonargparse.set_parsing_settings(import_path_allowlist=[__name__])  # as a fork does in leyden/security.py
NORM = partial(nn.LayerNorm, eps=1e-6)


class Network(nn.Module):
    """Has defaults that YAML cannot hold, and one class whose arguments a reader would ask for."""

    def __init__(
        self,
        width: int = 3,
        norm: Any = NORM,
        layer: type[nn.Module] = nn.Linear,
        share: float = 0.5,
    ) -> None:
        super().__init__()
        self.arguments = (width, norm, layer, share)


def parser_of(base: type) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "part")
    return parser


def written(base: type, *words: str) -> tuple[dict[str, Any], Namespace]:
    """What is written of a part's arguments, and what a reader of that has."""
    parser = parser_of(base)
    plain = plain_config(parser, parser.parse_args([*words]))
    return plain["part"]["init_args"], parser.parse_string(yaml.safe_dump(plain)).part.init_args


def test_a_default_that_yaml_cannot_hold_is_left_out_and_the_reader_has_it_all_the_same() -> None:
    plain, read = written(nn.Module, f"--part={__name__}.Network", "--part.width=7")
    assert plain == {"width": 7, "layer": "torch.nn.Linear", "share": 0.5}
    assert read.width == 7
    assert read.norm.func is nn.LayerNorm


def test_a_device_is_left_out_where_it_is_the_default() -> None:
    words = ["--part=StochasticWeightAveraging", "--part.swa_lrs=0.01"]
    plain, read = written(Callback, *words)
    assert "device" not in plain
    assert read.device == torch.device("cpu")
    assert StochasticWeightAveraging(**read.as_dict())


def test_a_string_that_might_have_been_a_function_and_an_enumeration_of_strings_are_strings() -> None:
    plain, read = written(Callback, "--part=ModelPruning", "--part.pruning_fn=l1_unstructured")
    assert plain["pruning_fn"] == read.pruning_fn == "l1_unstructured"
    assert ModelPruning(**read.as_dict())
    plain, read = written(Callback, "--part=Timer", "--part.duration=00:00:01:00")
    assert plain["interval"] == read.interval == "step"
    assert Timer(**read.as_dict())


def test_what_reads_back_as_another_value_is_refused() -> None:
    with pytest.raises(UserError, match=r"^part\.init_args\.share reads back from config\.yaml as another value"):
        written(nn.Module, f"--part={__name__}.Network", "--part.share=.nan")  # which equals nothing
