"""`leyden export --ckpt_path CKPT --format FORMAT`: files that other runtimes read, each verified by its own."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from leyden.checkpoints.find import find_checkpoint
from leyden.checkpoints.io import read_checkpoint
from leyden.deploy.export.metadata import describe, origin
from leyden.deploy.export.network import raw_network
from leyden.deploy.export.options import read_options
from leyden.deploy.export.read_back import Reader
from leyden.deploy.export.samples import Samples
from leyden.deploy.extras import require
from leyden.deploy.load import load_parts
from leyden.deploy.predictor import Predictor
from leyden.errors import UserError
from leyden.models.image_gpt import ImageGPT
from leyden.runs.directory import check_name, make_run_directory, short_path

PACKAGES = ("onnx", "onnxruntime", "onnxscript", "safetensors")


def export(args: list[str]) -> None:
    """Write the files of a checkpoint, run each in its own runtime, and print what they do.

    Args:
        args: What follows `leyden export`.

    Raises:
        UserError: An option, the checkpoint or its data are refused, before anything is written.
        RunError: A file cannot be made, or answers differently; it is not left under its name.
    """
    options = read_options(args)
    require("export", *PACKAGES)
    from leyden.deploy.export.writing import write_decoder_file, write_files  # only here: it imports these packages

    path = find_checkpoint(options.ckpt_path, Path(options.default_root_dir), options.name, "best")
    checkpoint = read_checkpoint(path)
    model, data = load_parts(path, checkpoint)
    if isinstance(model, ImageGPT):
        if options.format != "onnx" or options.int8:
            raise UserError("an ImageGPT is exported as the ONNX file of its decoder: leave out --format and --int8")
        names = getattr(data, "class_names", None) or [str(i) for i in range(model.num_classes)]
        metadata = {"class_names": json.dumps(names, ensure_ascii=False), **origin(path, options.license)}
        write_decoder_file(model, metadata, output_folder(options, path, checkpoint))
        return
    predictor = Predictor(model, data)  # in float32, whatever the training computed in
    if options.int8 and not predictor.class_names:
        raise UserError(f"--int8 is for classifiers, and {type(model).__name__} predicts values: leave it out")
    network = raw_network(predictor)
    samples = Samples(predictor, options.samples)
    metadata = describe(predictor, path, options.license)
    output = output_folder(options, path, checkpoint)
    write_files(options, Reader(predictor, network, samples), checkpoint, metadata, output)


def output_folder(options: argparse.Namespace, path: Path, checkpoint: dict[str, Any]) -> Path:
    """Return the folder to write to, that of `--output` or of a new run, and print what is exported.

    Raises:
        UserError: It cannot be written.
    """
    if options.output is None:
        name = options.name or checkpoint["config"]["name"]
        check_name(name)
        output = make_run_directory(Path(options.default_root_dir).absolute() / name, "_export")
    else:
        output = Path(options.output)
        try:
            output.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=output):
                pass
        except OSError as error:
            raise UserError(f"cannot write to {output} ({error.strerror}): choose another --output") from error
    print(f"from  {short_path(path)}, step {checkpoint.get('global_step')}", flush=True)
    return output
