"""ONNX files as `leyden export` writes them, of networks with random or given weights."""

import json
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from leyden.deploy.predictor import Predictor


class FromPixels(nn.Module):
    """Raw uint8 images (N, C, H, W) to probabilities, as `Predictor.normalize` and `predict_step` compute them."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model: Any = predictor.model
        self.pixel_max = getattr(predictor.data, "pixel_max", 255)
        self.register_buffer("mean", predictor.data.mean)
        self.register_buffer("std", predictor.data.std)

    def forward(self, images: Tensor) -> Tensor:
        x = images.float()
        if self.pixel_max != 255:
            x = (x * (self.pixel_max / 255)).round()
        logits: Tensor = self.model((x / self.pixel_max - self.mean) / self.std)
        return logits.softmax(dim=1)


class FromNumbers(nn.Module):
    """Numbers to values or probabilities."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model: Any = predictor.model
        self.is_classifier = bool(predictor.class_names)

    def forward(self, inputs: Tensor) -> Tensor:
        output: Tensor = self.model(inputs)
        return output.softmax(dim=1) if self.is_classifier else output


def write_onnx(predictor: Predictor, path: Path, **changes: str) -> Path:
    """Writes the file; `changes` replace entries of its metadata."""
    reader, shape = predictor.reader, predictor.input_shape
    x = torch.zeros(4, *shape, dtype=torch.float32 if reader is None else torch.uint8)
    module = (FromNumbers if reader is None else FromPixels)(predictor).eval()
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},))
    output = "probabilities" if predictor.class_names else "values"
    names = {"input_names": ["inputs" if reader is None else "images"], "output_names": [output]}
    written = torch.onnx.export(program, dynamo=True, verbose=False, **names)
    assert written is not None
    written.save(path, external_data=False)
    described: dict[str, Any] = {"shape": ["N", *shape], "dtype": "float32"}
    metadata = {"class_names": json.dumps(predictor.class_names), "preprocessing": "{}", "license": ""}
    if reader is not None:
        described |= {"dtype": "uint8", "colour": "grey" if shape[0] == 1 else "RGB"}
        constants = {name: getattr(predictor.data, name).flatten().tolist() for name in ("mean", "std")}
        metadata["preprocessing"] = json.dumps({"resize": reader.resize, **constants})
    metadata["input"] = json.dumps(described)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata | changes)
    onnx.save(model, path)
    return path
