"""A trained model with the preprocessing of its data, for use without a Trainer."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from leyden.data.datamodules import ImageDataModule
from leyden.data.image_files import BrokenImageError, ImageReader, Pixels, check_size, printable
from leyden.errors import UserError
from leyden.models.task import Task
from leyden.models.tasks import Classifier, Regressor


class Prediction(NamedTuple):
    """What a classifier says about one input.

    Args:
        class_name: The most likely class.
        probability: Its probability.
        probabilities: The probability of each class, by name.
    """

    class_name: str
    probability: float
    probabilities: dict[str, float]


class Predictor:
    """A trained classifier or regressor.

    Args:
        model: The model.
        data: The DataModule of its training, of which nothing is loaded; None if there is none. One of images turns
            files, pictures and arrays into inputs of the model. Otherwise inputs are numbers of its `input_shape`.
        precision: The Trainer's `precision` with which it was trained.
        device: Where to compute, such as `cpu` or `cuda`.

    Attributes:
        name: The model's name for messages.
        network: The plain network. `model` may resize images before it calls the network.
        class_names: Names of the classes; empty for a regressor.
        reader: How image files are read; None if the inputs are numbers.
        batch_size: Inputs that are computed at once.

    Raises:
        UserError: The model predicts neither classes nor values, its images are not square, or there is no such device.
    """

    def __init__(self, model: Task, data: Any, precision: Any = "32-true", device: str | torch.device = "cpu") -> None:
        if not isinstance(model, Classifier | Regressor):
            draws = (
                ": it draws new images, as `leyden predict --ckpt_path CKPT` does" if hasattr(model, "sample") else ""
            )
            raise UserError(f"{type(model).__name__} predicts neither classes nor values for an image{draws}")
        try:
            self.device = torch.device(device)
            self.model = model.to(self.device).eval()
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"cannot compute on {device}: {str(error).partition(chr(10))[0]}") from error
        self.name = type(model).__name__
        self.data = data
        self.network: nn.Module = model.network
        self.input_shape = tuple(model.hparams["input_shape"])
        self.reader = reader_of(data)
        self.batch_size: int = getattr(data, "batch_size", 64)
        self.class_names: list[str] = []
        if isinstance(model, Classifier):
            self.class_names = getattr(data, "class_names", None) or [str(i) for i in range(model.num_classes)]
        half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(precision))
        self.half = None if half is torch.float16 and self.device.type == "cpu" else half  # which a CPU lacks

    def predict(self, inputs: Any) -> Any:
        """Predict one input, or each of a list.

        Args:
            inputs: A model of images takes a file's path, a PIL image, an array (H, W) or (H, W, C) or a tensor (H, W)
                or (C, H, W) of uint8, or a list of these. Any other model takes numbers: (*input_shape) for one
                input, (N, *input_shape) for several.

        Returns:
            A `Prediction` of a classifier, the list of values of a regressor; for several inputs, a list of them.

        Raises:
            ValueError: An input cannot be used; the message names the file.
        """
        if self.reader is None:
            inputs = self._numbers(inputs)
            is_one = inputs.ndim == len(self.input_shape)
        else:
            is_one = not isinstance(inputs, list | tuple)
        inputs = [inputs] if is_one else inputs
        batches = (inputs[first : first + self.batch_size] for first in range(0, len(inputs), self.batch_size))
        predictions = [answer for batch in batches for answer in self._answers(self.run(self.preprocess(batch)))]
        return predictions[0] if is_one else predictions

    def preprocess(self, inputs: Any) -> Tensor:
        """Return what the model gets for a list of inputs, float (N, *input_shape), on its device.

        Raises:
            ValueError: An input cannot be used.
        """
        if self.reader is None:
            return self._numbers(inputs).reshape(-1, *self.input_shape).to(self.device)
        return self.normalize([self._pixels(image) for image in inputs])

    def normalize(self, pixels: list[Pixels]) -> Tensor:
        """Return arrays of the reader, each (C, H, W), as the model gets them, (N, C, H, W)."""
        x = torch.from_numpy(np.stack(pixels)).to(self.device)
        if (largest := getattr(self.data, "pixel_max", 255)) != 255:
            x = (x * (largest / 255)).round().to(torch.uint8)
        normalized: Tensor = self.data.normalize(x)
        return normalized

    @torch.inference_mode()
    def run(self, x: Tensor) -> dict[str, Tensor]:
        """Return what the model's `predict_step` says about preprocessed inputs (N, *input_shape), on the CPU."""
        with self._precision():
            return {name: column.cpu() for name, column in self.model.predict_step(x, 0).items()}

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, self.half, enabled=self.half is not None)

    def _answers(self, columns: dict[str, Tensor]) -> Iterator[Prediction | list[float]]:
        if not self.class_names:
            yield from torch.stack([*columns.values()], dim=1).tolist()
            return
        for index, probabilities in zip(columns["class"].tolist(), columns["probabilities"].tolist(), strict=True):
            by_name = dict(zip(self.class_names, probabilities, strict=True))
            yield Prediction(self.class_names[index], probabilities[index], by_name)

    def _numbers(self, inputs: Any) -> Tensor:
        """Return one or several inputs as float32."""
        shape = self.input_shape
        try:
            values = inputs.cpu() if isinstance(inputs, Tensor) else np.array(inputs, dtype=np.float32)
            x = torch.as_tensor(values, dtype=torch.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.name} takes numbers of shape {shape}, not {type(inputs).__name__}") from error
        if x.ndim > len(shape) + 1 or x.shape[-len(shape) :] != shape:
            raise ValueError(f"{self.name} takes numbers of shape {shape}, not {tuple(x.shape)}")
        return x

    def _pixels(self, image: Any) -> Pixels:
        """Return one image as the reader does, (C, H, W)."""
        assert self.reader is not None
        if isinstance(image, str | Path):
            try:
                return self.reader.read(image)
            except BrokenImageError as error:
                raise ValueError(f"{printable(str(image))}: {error}") from error
        if not isinstance(image, Image.Image):
            image = to_image(image)
        check_size(image)
        return self.reader.convert(image)


def to_image(array: Any) -> Image.Image:
    """Return an array (H, W) or (H, W, C), or a tensor (H, W) or (C, H, W), of uint8 as a PIL image.

    Raises:
        ValueError: It has another shape or type.
    """
    values = np.asarray(array.cpu() if isinstance(array, Tensor) else array)
    if isinstance(array, Tensor) and array.ndim == 3:
        values = values.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        raise ValueError(
            f"an image of type {values.dtype} and shape {tuple(getattr(array, 'shape', ()))}: give uint8, an array "
            "(H, W) or (H, W, C) or a tensor (C, H, W), of 1, 3 or 4 channels"
        )
    return Image.fromarray(np.ascontiguousarray(values.squeeze(2) if values.shape[2:] == (1,) else values))


def reader_of(data: Any) -> ImageReader | None:
    """Return how image files are read for a model that was trained on a DataModule, None if it is not one of images.

    Raises:
        UserError: The images of the data are not square.
    """
    if not isinstance(data, ImageDataModule):
        return getattr(data, "reader", None)
    channels, height, width = data.input_shape
    if height != width or channels not in (1, 3):
        raise UserError(
            f"{type(data).__name__} has images of shape {data.input_shape}, and files are read as square grey or RGB "
            "images: give it a `reader` of its own (leyden.data.image_files.ImageReader)"
        )
    return ImageReader(channels, height)
