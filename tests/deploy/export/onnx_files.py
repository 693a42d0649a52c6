"""ONNX files as `leyden export` writes them, of networks with random or given weights."""

from pathlib import Path

import torch

from leyden.deploy.export.metadata import describe, input_name, output_name
from leyden.deploy.export.network import raw_network
from leyden.deploy.export.onnx_file import write_onnx
from leyden.deploy.export.program import trace
from leyden.deploy.predictor import Predictor


def export_onnx(predictor: Predictor, license_text: str = "") -> Path:
    """Writes `float.onnx`, of the predictor of `model.ckpt`."""
    dtype = torch.float32 if predictor.reader is None else torch.uint8
    program = trace(raw_network(predictor), torch.zeros(4, *predictor.input_shape, dtype=dtype))
    metadata = describe(predictor, Path("model.ckpt"), license_text)
    write_onnx(program, (input_name(predictor), output_name(predictor)), metadata, Path("float.onnx"))
    return Path("float.onnx")
