"""The options of `leyden export`."""

import argparse

from leyden.deploy.option_parser import OptionParser
from leyden.errors import UserError
from leyden.runs.directory import RUNS

FORMATS = ["onnx", "pt2", "safetensors"]


def read_options(args: list[str]) -> argparse.Namespace:
    """Read what follows `leyden export`; `leyden.cli.help` explains the options.

    Raises:
        UserError: An option is unknown, wrong or missing.
    """
    parser = OptionParser("leyden export")
    parser.add_argument("--format", choices=[*FORMATS, "all"], default="onnx")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--output")
    parser.add_argument("--license", default="")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--name")
    parser.add_argument("--trainer.default_root_dir", dest="default_root_dir", default=RUNS)
    options = parser.read(args)
    if options.samples is not None and options.samples < 1:
        raise UserError(f"--samples is {options.samples}, but must be 1 or more")
    options.formats = FORMATS if options.format == "all" else [options.format]
    if options.int8 and "onnx" not in options.formats:
        raise UserError("--int8 makes an ONNX file: give --format onnx or --format all with it")
    return options
