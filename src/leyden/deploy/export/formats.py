"""The files that can be made of a predictor. Imported only by the command, once its packages are known to be there."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from leyden.deploy.export.metadata import input_name, output_name
from leyden.deploy.export.onnx_file import check_file, open_onnx, write_onnx
from leyden.deploy.export.program import quiet, trace
from leyden.deploy.export.pt2_file import open_pt2, write_pt2
from leyden.deploy.export.quantized import quantize
from leyden.deploy.export.read_back import Reader, Run
from leyden.deploy.export.samples import Samples

ONNX, INT8 = "model.onnx", "model.int8.onnx"
EXAMPLES = 4  # samples in the batch with which the network is traced


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Args:
        name: Its name.
        write: Writes it to a path of that name.
        open: Returns what runs it, on a number of threads.
        is_int8: Whether its answers may differ.
    """

    name: str
    write: Callable[[Path], None]
    open: Callable[[Path, int], Run]
    is_int8: bool = False


def make_formats(
    names: list[str], int8: bool, reader: Reader, metadata: Mapping[str, str], output: Path
) -> Iterator[Format]:
    """Yield the formats that are asked for, those with equal answers first.

    Args:
        names: Their names on the command line.
        int8: Whether to quantise the ONNX file as well.
        reader: The predictor, its network and its data.
        metadata: What each file says about itself.
        output: Where the ONNX file is once it is complete.

    Raises:
        RunError: The network cannot be traced.
    """
    predictor, samples = reader.predictor, reader.samples
    if {"onnx", "pt2"} & {*names}:
        raw, _, _ = next(samples.test(EXAMPLES, EXAMPLES))
        program = trace(reader.network, torch.from_numpy(raw))
    if "onnx" in names:
        ends = (input_name(predictor), output_name(predictor))
        yield Format(ONNX, lambda path: write_onnx(program, ends, metadata, path), open_onnx)
    if "pt2" in names:
        yield Format("model.pt2", lambda path: write_pt2(program, metadata, path), open_pt2)
    if int8:
        yield Format(INT8, lambda path: write_int8(output / ONNX, samples, path), open_onnx, is_int8=True)


def write_int8(onnx_file: Path, samples: Samples, path: Path) -> None:
    """Write an ONNX file in 8 bits, calibrated on training samples."""
    with quiet():
        quantize(onnx_file, path, samples.calibration())
    check_file(path)
