"""Write and run ONNX files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch.export import ExportedProgram

from leyden.deploy.export.program import quiet
from leyden.deploy.export.read_back import Run
from leyden.errors import RunError

BATCH = "N"  # name of the batch dimension in a file


def write_onnx(program: ExportedProgram, names: tuple[str, str], metadata: Mapping[str, str], path: Path) -> None:
    """Write a program with its weights as one ONNX file, and check the file.

    Args:
        program: The program, with one input and one output.
        names: Names of the input and the output.
        metadata: What the file says about itself.
        path: The file.

    Raises:
        RunError: torch cannot translate an operator, or the file is not valid or takes one size of batch only.
    """
    try:
        with quiet():
            translated = torch.onnx.export(
                program, dynamo=True, input_names=names[:1], output_names=names[1:], verbose=False
            )
            assert translated is not None
            model = translated.model_proto
    except Exception as error:  # torch raises many types; the first line names the operator
        reason = " ".join(str(error).partition("\n")[0].split())
        raise RunError(f"torch.onnx cannot translate the network ({type(error).__name__}: {reason})") from error
    strip(model.graph)
    _name_batch(model.graph)
    model.producer_name, model.producer_version = "leyden", metadata["leyden_version"]
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
    check_file(path)


def check_file(path: Path) -> None:
    """Check that a written file is valid and complete, and takes batches of any size.

    Raises:
        RunError: It is not.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RunError(f"the ONNX file is not valid: {str(error).partition(chr(10))[0]}") from error
    graph = onnx.load(path, load_external_data=False).graph
    for value in (*graph.input, *graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.dim_param:
            raise RunError(f"the ONNX file takes batches of {first.dim_value} only: the network fixes the batch size")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer):
        raise RunError("the ONNX file has its weights in another file: they are too large for one")


def open_onnx(path: Path, threads: int) -> Run:
    """Return a function that runs an ONNX file by onnxruntime on the CPU.

    Args:
        path: The file, with one input and one output.
        threads: Number of threads; 0 for one on each core.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        (outputs,) = session.run(None, {name: inputs})
        return np.asarray(outputs)

    return run


def strip(model_graph: Any) -> None:
    """Remove the shapes, which runtimes infer, and what torch notes on each part, such as paths of this machine."""
    for graph in _graphs(model_graph):
        graph.ClearField("value_info")
        for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
            part.ClearField("metadata_props")
            part.ClearField("doc_string")


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and those inside of it, of branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _name_batch(graph: Any) -> None:
    """Give the batch dimension of the input and the output a name; torch's is like s34."""
    for value in (*graph.input, *graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if first.dim_param:
            first.dim_param = BATCH
