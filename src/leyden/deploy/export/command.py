"""`leyden export --ckpt_path CKPT --format FORMAT`: files that other runtimes read, each verified by its own."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from leyden.checkpoints.find import find_checkpoint
from leyden.checkpoints.io import read_checkpoint
from leyden.deploy.export.metadata import describe
from leyden.deploy.export.network import raw_network
from leyden.deploy.export.options import read_options
from leyden.deploy.export.read_back import ReadBack, Reader
from leyden.deploy.export.samples import Samples
from leyden.deploy.export.summary import header, row, write_summary
from leyden.deploy.extras import require
from leyden.deploy.load import load_parts
from leyden.deploy.predictor import Predictor
from leyden.durable import replacing
from leyden.errors import RunError, UserError
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
    from leyden.deploy.export.formats import make_formats

    root = Path(options.default_root_dir)
    checkpoint_path = find_checkpoint(options.ckpt_path, root, options.name, "best")
    checkpoint = read_checkpoint(checkpoint_path)
    predictor = Predictor(*load_parts(checkpoint_path, checkpoint))  # in float32, whatever the training computed in
    if options.int8 and not predictor.class_names:
        raise UserError(
            f"--int8 is for classifiers, and {type(predictor.model).__name__} predicts values: leave it out"
        )
    network = raw_network(predictor)
    samples = Samples(predictor, options.samples)
    metadata = describe(predictor, checkpoint_path, options.license)
    output = output_folder(options.output, root, options.name or checkpoint["config"]["name"])
    print(f"from  {short_path(checkpoint_path)}, step {checkpoint.get('global_step')}", flush=True)
    reader = Reader(predictor, network, samples)
    formats = make_formats(options.formats, options.int8, reader, metadata, output)
    write_files(formats, reader, metadata, output)


def write_files(formats: Iterable[Any], reader: Reader, metadata: dict[str, str], output: Path) -> None:
    """Write each file, and move it to its name if its answers are right; print a row for each.

    Args:
        formats: What to write.
        reader: Runs each file.
        metadata: What each file says about itself.
        output: The folder.

    Raises:
        RunError: A file cannot be made, or its answers are not right.
    """
    rows: list[ReadBack] = []
    print(header(), flush=True)
    for kind in formats:
        with tempfile.TemporaryDirectory(dir=output, prefix=".export-") as scratch:
            part = Path(scratch) / kind.name
            kind.write(part)
            written = sorted(Path(scratch).iterdir())
            rows.append(reader.read(part, sum(file.stat().st_size for file in written), kind.open, kind.is_int8))
            print(row(rows[-1]), flush=True)
            if rows[-1].fault is None:
                for file in written:
                    with replacing(output / file.name) as target:
                        shutil.move(file, target)
        write_summary(rows, metadata, output)
        if rows[-1].fault is not None:
            raise RunError(f"{kind.name} is not kept: {rows[-1].fault}; export.json has the figures")
    print(f"files  {short_path(output)}", flush=True)


def output_folder(requested: str | None, root: Path, name: str) -> Path:
    """Return the folder to write to: the one that is asked for, or that of a new run.

    Raises:
        UserError: It cannot be written.
    """
    if requested is None:
        check_name(name)
        return make_run_directory(root.absolute() / name, "_export")
    output = Path(requested)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            return output
    except OSError as error:
        raise UserError(f"cannot write to {requested} ({error.strerror}): choose another folder by --output") from error
