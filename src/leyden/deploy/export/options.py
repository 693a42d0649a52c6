"""The options of `leyden export`."""

import argparse

from leyden.deploy.option_parser import OptionParser
from leyden.errors import UserError, did_you_mean
from leyden.runs.directory import RUNS

FORMATS = ["onnx", "pt2", "safetensors"]


def read_options(args: list[str]) -> argparse.Namespace:
    """Read what follows `leyden export`; `leyden.cli.help` explains the options.

    Raises:
        UserError: An option is unknown, wrong or missing.
    """
    parser = OptionParser()
    parser.add_argument("--ckpt_path")
    parser.add_argument("--format", choices=[*FORMATS, "all"], default="onnx")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--output")
    parser.add_argument("--license", default="")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--name")
    parser.add_argument("--trainer.default_root_dir", dest="default_root_dir", default=RUNS)
    options, unknown = parser.parse_known_args(args)
    for arg in unknown:
        name = arg.lstrip("-").partition("=")[0]
        if name in ("config", "c"):
            raise UserError("leyden export takes no --config: model and preprocessing are those of the checkpoint")
        raise UserError(f"leyden export has no option `{arg.partition('=')[0]}`{did_you_mean(name, vars(options))}")
    if options.ckpt_path is None:
        raise UserError("`leyden export` needs --ckpt_path: a file, a run directory, `best` or `last`")
    if options.samples is not None and options.samples < 1:
        raise UserError(f"--samples is {options.samples}, but must be 1 or more")
    options.formats = FORMATS if options.format == "all" else [options.format]
    if options.int8 and "onnx" not in options.formats:
        raise UserError("--int8 makes an ONNX file: give --format onnx or --format all with it")
    return options
