"""Write files, and give each its name only when it is complete and its answers are right."""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leyden.deploy.export.decoder import largest_difference, write_decoder
from leyden.deploy.export.formats import make_formats
from leyden.deploy.export.read_back import TOLERANCE, ReadBack, Reader
from leyden.deploy.export.summary import FILE, header, row, size_in_words, write_summary
from leyden.durable import replacing
from leyden.errors import RunError
from leyden.models.image_gpt import ImageGPT
from leyden.runs.directory import short_path

DECODER = "decoder.onnx"


def write_files(
    options: argparse.Namespace,
    reader: Reader,
    checkpoint: Mapping[str, Any],
    metadata: Mapping[str, str],
    output: Path,
) -> None:
    """Write each file that is asked for, run it, and print a row of figures for it.

    Args:
        options: Those of the command.
        reader: Runs a file beside the predictor that it is made from.
        checkpoint: The content of the checkpoint.
        metadata: What each file says about itself.
        output: The folder.

    Raises:
        RunError: A file cannot be made, or its answers are not right.
    """
    reads: list[ReadBack] = []
    print(header(), flush=True)
    for kind in make_formats(options.formats, options.int8, reader, checkpoint, metadata, output):
        with kept_if_good(output) as scratch:
            part = scratch / kind.name
            kind.write(part)
            size = sum(file.stat().st_size for file in scratch.iterdir())
            reads.append(reader.read(part, size, kind.open, kind.is_int8))
            print(row(reads[-1]), flush=True)
            write_summary([read.to_json() for read in reads], metadata, output)
            if reads[-1].fault is not None:
                raise RunError(f"{kind.name} is not kept: {reads[-1].fault}; {FILE} has the figures")
    print(f"files  {short_path(output)}", flush=True)


def write_decoder_file(model: ImageGPT, metadata: Mapping[str, str], output: Path) -> None:
    """Write the decoder of a model that draws images, and compare each step of an image of each class.

    Args:
        model: The model.
        metadata: What the file says about itself.
        output: The folder.

    Raises:
        RunError: Its logits are not right.
    """
    with kept_if_good(output) as scratch:
        part = scratch / DECODER
        write_decoder(model, metadata, part)
        difference, size = largest_difference(part, model), part.stat().st_size
        print(f"{DECODER}  {size_in_words(size)}, logits differ by up to {difference:.1e}", flush=True)
        write_summary([{"file": DECODER, "size": size, "differences": {"logits": difference}}], metadata, output)
        if not difference <= TOLERANCE:
            raise RunError(f"{DECODER} is not kept: its logits differ by more than {TOLERANCE:.0e}")
    print(f"files  {short_path(output)}", flush=True)


@contextmanager
def kept_if_good(output: Path) -> Iterator[Path]:
    """Yield an empty folder, whose files are moved to `output` when the block ends, and deleted if it raises."""
    with tempfile.TemporaryDirectory(dir=output, prefix=".export-") as name:
        scratch = Path(name)
        yield scratch
        for file in sorted(scratch.iterdir()):
            with replacing(output / file.name) as target:
                shutil.move(file, target)
