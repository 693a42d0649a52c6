"""Quantise an ONNX file to 8 bits."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

WEIGHTED = ("Conv", "Gemm", "MatMul")
BETWEEN = ("Add", "Concat", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool")  # what joins them in 8 bits
VIEWS = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze")


class Batches(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    """Feed batches of inputs to the calibration.

    Args:
        name: Name of the file's input.
        batches: The inputs, each (N, ...).
    """

    def __init__(self, name: str, batches: Iterable[np.ndarray[Any, Any]]) -> None:
        self.name = name
        self.batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the next batch by the input's name, None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch}


def quantize(onnx_file: Path, output: Path, batches: Iterable[np.ndarray[Any, Any]]) -> None:
    """Quantise the weights and activations of a file to 8 bits, with pairs of QuantizeLinear and DequantizeLinear.

    Weights get a scale for each output channel, activations the range of their values in the calibration. Only
    convolutions, dense layers and what joins them are quantised. What comes before the first of them, the scaling and
    resizing of raw pixels, stays in float32, and so do softmax, layer normalisation and recurrent layers: their 8-bit
    steps would cost accuracy and save no weight. Input, output and metadata are those of `onnx_file`.

    Args:
        onnx_file: The file, as `leyden export` writes it.
        output: The file to write.
        batches: Inputs of the training split for the calibration, each (N, *input_shape) and of the input's type;
            about 1 000 samples in all.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(onnx_file, prepared)  # infers shapes, and folds batch-norm into convolutions
        graph = onnx.load(prepared).graph
        quantize_static(
            prepared,
            output,
            Batches(graph.input[0].name, batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # 7 bits: sums of two products of 8 bits overflow on x86 processors without VNNI
            op_types_to_quantize=[*WEIGHTED, *BETWEEN, *VIEWS],
            nodes_to_exclude=float_nodes(graph),
        )
    model = onnx.load(output)
    del model.graph.value_info[:]  # shapes inside the graph, which every runtime infers
    onnx.helper.set_model_props(model, {prop.key: prop.value for prop in onnx.load(onnx_file).metadata_props})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, output)


def float_nodes(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the nodes to leave in float32: those before the first weights, and products without weights.

    Attention multiplies activations with each other. The option MatMulConstBOnly, which is meant for that, has no
    effect on QuantizeLinear pairs in onnxruntime 1.31.
    """
    constants = {tensor.name for tensor in graph.initializer}
    first = next((i for i, node in enumerate(graph.node) if node.op_type in WEIGHTED), 0)
    products = {node.name for node in graph.node if node.op_type == "MatMul" and not constants & {*node.input}}
    return [node.name for i, node in enumerate(graph.node) if i < first or node.name in products]
