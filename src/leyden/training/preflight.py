"""What can be refused before any training time is spent."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from leyden.errors import UserError


def check_model_fits_data(model: LightningModule, data: LightningDataModule) -> None:
    """Send two blank samples of the data's shape through the model.

    A model that says its own `output_shape`, of one sample, is sent its `example_input_array` instead. A DataModule
    that does not say its `input_shape` and `num_classes` or `out_features` is not checked.

    Raises:
        UserError: The network cannot take the input, or its output does not fit the target.
    """
    input_shape = getattr(data, "input_shape", None)
    outputs = getattr(data, "num_classes", None) or getattr(data, "out_features", None)
    if input_shape is None or outputs is None:
        return
    x: Any = torch.zeros(2, *input_shape)
    wanted: Any = (outputs,)
    if hasattr(model, "output_shape"):  # its input is not a sample as it comes
        x, wanted = model.example_input_array, model.output_shape
    pair = f"{type(model).__name__} does not fit {type(data).__name__}"
    training = model.training
    model.eval()  # batch-norm's statistics and the random generator stay untouched
    try:
        with torch.no_grad():
            shape = tuple(model(x).shape)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{pair}: one sample is {tuple(input_shape)}, and the network says: {reason}") from error
    finally:
        model.train(training)
    if shape != (len(x), *wanted):
        raise UserError(f"{pair}: the network's output is {shape[1:]}, the target wants {wanted}")
