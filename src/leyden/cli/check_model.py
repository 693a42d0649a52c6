"""Check that the model fits the data, by a forward pass before the run."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

from leyden.data.image_batches import ImageBatches
from leyden.errors import UserError
from leyden.models.task import Task
from leyden.models.tasks import Regressor

Loader = DataLoader[Any]


def check_sizes(sizes: dict[str, Any], data: LightningDataModule | None) -> None:
    """Refuse sizes of the model that differ from those of the data.

    Args:
        sizes: {argument of the model: value that the user gave}.
        data: The data.

    Raises:
        UserError: A size differs.
    """
    for name, value in sizes.items():
        true_size = getattr(data, name, value)
        if value is not None and value != true_size:
            raise UserError(f"model.{name} is {value}, but the data have {true_size}: leave it out")


def check_layers(model: LightningModule) -> None:
    """Refuse a layer without units.

    Raises:
        UserError: A layer has weights of size 0.
    """
    for name, parameter in model.named_parameters():
        if not isinstance(parameter, torch.nn.UninitializedParameter) and not parameter.numel():
            layer = name.removeprefix("network.").rpartition(".")[0]
            raise UserError(
                f"layer {layer} of {type(model).__name__} has no width, its weights are of shape "
                f"{tuple(parameter.shape)}: give every layer 1 unit or more"
            )


def check_model_fits_data(model: LightningModule, data: LightningDataModule | None) -> None:
    """Pass two blank samples of the data's shape through the model.

    A model with an `output_shape`, that of one sample, is given its `example_input_array` instead. Data without an
    `input_shape` and `num_classes` or `out_features` are not checked.

    Raises:
        UserError: The network cannot take the input, or its output does not fit the target.
    """
    input_shape = getattr(data, "input_shape", None)
    if input_shape is None or target_shape(model, data) is None:
        return
    x: Any = model.example_input_array if hasattr(model, "output_shape") else torch.zeros(2, *input_shape)
    training = model.training
    model.eval()  # batch-norm's statistics and the random generator do not change
    try:
        with torch.no_grad():
            output = model(x)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{type(model).__name__} does not fit {type(data).__name__}: one sample is {tuple(input_shape)}, and the "
            f"network says: {reason}"
        ) from error
    finally:
        model.train(training)
    check_output(model, data, output, len(x))


def target_shape(model: LightningModule, data: LightningDataModule | None) -> tuple[int, ...] | None:
    """Return the shape that one sample of the output must have, None if the data do not define it."""
    outputs = getattr(data, "num_classes", None) or getattr(data, "out_features", None)
    if getattr(data, "input_shape", None) is None or outputs is None:
        return None
    return getattr(model, "output_shape", None) or (outputs,)


def check_output(model: LightningModule, data: LightningDataModule | None, output: Any, count: int) -> None:
    """Refuse an output of `count` samples that is no tensor, or of another shape than the target.

    Raises:
        UserError: It is.
    """
    if not isinstance(output, torch.Tensor):
        raise UserError(
            f"the network of {type(model).__name__} returns {type(output).__name__}, but must return one tensor; "
            "GoogLeNet and Inception of torchvision do with aux_logits: false"
        )
    wanted = target_shape(model, data)
    if wanted is not None and output.shape != (count, *wanted):
        raise UserError(
            f"{type(model).__name__} does not fit {type(data).__name__}: the network's output is "
            f"{tuple(output.shape[1:])}, the target wants {wanted}"
        )


def first_samples(loader: Loader, trainer: Trainer) -> Any:
    """Return the first two training samples as a batch, or one sample where an epoch ends with a batch of one.

    This draws the order of the whole epoch and checks every index.
    """
    indices = next(iter(loader.batch_sampler))  # type: ignore[arg-type]
    whole_epoch = trainer.limit_train_batches == 1.0 and trainer.max_steps == -1
    ends_with_one = not loader.drop_last and len(loader.sampler) % loader.batch_size == 1  # type: ignore
    indices = indices[: 1 if whole_epoch and ends_with_one else 2]
    return loader.dataset.__getitems__(indices)  # type: ignore[attr-defined]


def check_step(trainer: Trainer, model: Task, data: LightningDataModule, batch: Any) -> None:
    """Pass real samples through augmentation, normalisation, network and loss, as a training step does.

    Raises:
        UserError: A part raises, or the loss is not finite.
    """
    batch = data.transfer_batch_to_device(batch, model.device, 0)
    copies = {name: buffer.clone() for name, buffer in model.named_buffers()}  # batch-norm updates these instead
    try:
        if type(data).on_after_batch_transfer is ImageBatches.on_after_batch_transfer:
            batch = data.preprocess(batch, training=True)  # type: ignore[attr-defined]
        else:
            batch = data.on_after_batch_transfer(batch, 0)
        x, y = model.inputs_and_targets(*batch)
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), trainer.precision_plugin.forward_context():
            output = torch.func.functional_call(model, copies, (x,))
            check_output(model, data, output, len(y))  # some networks return more in training than in evaluation
            if isinstance(model, Regressor) and output.shape != y.shape:  # the loss would broadcast them
                raise ValueError(f"the output is {tuple(output.shape)}, the target {tuple(y.shape)}")
            loss = model.loss(output, y)
    except (RuntimeError, ValueError, IndexError) as error:
        check_model_fits_data(model, data)  # raises a more specific message if the shapes are wrong
        reason, fix = str(error).partition("\n")[0], ""
        if "more than 1 value per channel" in reason:
            fix = ": an epoch ends with a batch of one sample, set --data.drop_last true or another batch_size"
        pair = f"{type(model).__name__} does not take a batch of {type(data).__name__}"
        raise UserError(f"{pair} ({reason}){fix}") from error
    if not loss.isfinite():
        raise UserError(
            f"the loss of the first training samples is {loss.item()} before any step: look for values that are not "
            "finite in the data or in the initial weights"
        )
