"""The network that goes into a file: raw inputs in, answers out."""

import torch
from torch import Tensor, nn

from leyden.data.image_batches import ImageBatches
from leyden.deploy.predictor import Predictor
from leyden.errors import UserError
from leyden.models.task import Task
from leyden.models.tasks import Classifier


class RawNetwork(nn.Module):
    """Map a batch of raw inputs to the answers of a model.

    Args:
        scale: Turns the raw inputs into those of the model.
        model: The model, with what it does before its network, such as resizing.
    """

    def __init__(self, scale: nn.Module, model: Task) -> None:
        super().__init__()
        self.scale = scale
        self.model = model
        self.is_classifier = isinstance(model, Classifier)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map raw inputs (N, *input_shape) to probabilities (N, num_classes) or values (N, out_features), float32."""
        outputs: Tensor = self.model(self.scale(inputs)).float()
        return outputs.softmax(dim=1) if self.is_classifier else outputs


class PixelScale(nn.Module):
    """Normalise raw images as the data of the training did: (x / pixel_max - mean) / std.

    Args:
        data: The DataModule. If its pixels are stored in another range than 0 to 255, the raw ones are rounded to it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, data: ImageBatches) -> None:
        super().__init__()
        self.register_buffer("mean", data.mean.clone())
        self.register_buffer("std", data.std.clone())
        self.pixel_max = data.pixel_max

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images (N, C, H, W), 0 to 255, to float32 (N, C, H, W)."""
        x = images.to(torch.float32)
        if self.pixel_max != 255:
            x = (x * (self.pixel_max / 255)).round()
        return (x / self.pixel_max - self.mean) / self.std


def raw_network(predictor: Predictor) -> nn.Module:
    """Return the network of a predictor with its preprocessing, in evaluation mode.

    Raises:
        UserError: The preprocessing is code of its own, not that of `ImageBatches`.
    """
    scale: nn.Module = nn.Identity()
    if predictor.reader is not None:
        data = predictor.data
        if not isinstance(data, ImageBatches) or type(data).normalize is not ImageBatches.normalize:
            raise UserError(
                f"{type(data).__name__} normalises images by code of its own, which cannot be put into a file: let it "
                "inherit `normalize` from leyden.data.image_batches.ImageBatches"
            )
        scale = PixelScale(data)
    return RawNetwork(scale, predictor.model).eval()
