"""An ONNX file in place of a checkpoint."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from leyden.data.image_files import Pixels
from leyden.deploy.onnx_checks import BATCH_SIZE, read_onnx
from leyden.deploy.predictor import Predictor
from leyden.errors import UserError


class OnnxPredictor(Predictor):
    """A classifier or regressor in an ONNX file of `leyden export`, run by onnxruntime on the CPU.

    `predict` takes and returns what a `Predictor` of the checkpoint does; `preprocess` returns raw uint8 images, as
    scaling is inside the file. There is no `model`, `network` or `data`.

    Args:
        path: The file.

    Raises:
        UserError: It cannot be read, `leyden export` did not write it, or onnxruntime cannot run it.
    """

    def __init__(self, path: Path) -> None:
        file = read_onnx(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what is wrong is raised
        try:
            self.session = onnxruntime.InferenceSession(file.content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a type for each code of its library
            raise UserError(f"onnxruntime cannot run {path}: {' '.join(str(error).split())[:200]}") from error
        self.name = path.name
        self.device = torch.device("cpu")
        self.input_shape = file.input_shape
        self.reader = file.reader
        self.class_names = file.class_names
        self.batch_size = BATCH_SIZE

    def normalize(self, pixels: list[Pixels]) -> Tensor:
        """Return arrays of the reader, each (C, H, W), as the file gets them, uint8 (N, C, H, W)."""
        return torch.from_numpy(np.stack(pixels))

    def run(self, x: Tensor) -> dict[str, Tensor]:
        """Return what the model's `predict_step` says about raw inputs (N, *input_shape).

        Raises:
            UserError: The file's network fails.
        """
        name = "inputs" if self.reader is None else "images"
        try:
            output = torch.from_numpy(self.session.run(None, {name: x.numpy()})[0])
        except Exception as error:
            raise UserError(f"{self.name} cannot be run: {' '.join(str(error).split())[:200]}") from error
        if not self.class_names:
            return {f"y{i}": column for i, column in enumerate(output.unbind(dim=1))}
        probability, label = output.max(dim=1)
        return {"class": label, "probability": probability, "probabilities": output}
