"""Classification and regression: the losses, metrics and predictions that the models share.

A model file subclasses `Classifier` or `Regressor` and builds `self.network`, a plain `nn.Module`.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchmetrics import MeanAbsoluteError, Metric
from torchmetrics.classification import MulticlassAccuracy

from leyden.errors import UserError
from leyden.models.class_weights import class_weight_tensor, weighted_cross_entropy
from leyden.models.objectives import LossFactory, MetricFactory
from leyden.models.task import Batch, Task


class Classifier(Task):
    """Classification with cross-entropy over `num_classes` exclusive classes.

    The network emits logits (B, num_classes) without a softmax, which cross-entropy applies. Class weights and label
    smoothing change the training loss only: `val/loss` and `test/loss` are the plain cross-entropy, so that they can be
    compared between runs. `loss`, if given, is used in every split.

    `leyden.models.class_weights.weighted_cross_entropy` states the formula. Where the data mix labels (`data.mix`), the
    targets of training are probabilities, and the training accuracy compares with the class that has the largest part
    of the mixture, so it is lower than on images that are not mixed.

    Args:
        num_classes: Number of classes C; labels are 0 to C - 1. From the data.
        class_weights: Weight of each class in the training loss, C numbers, or `balanced`: N / (C x samples of the
            class), counted over the training labels. The loss is divided by the weights of the batch of all processes.
        label_smoothing: Part of the target's probability that is spread evenly over all classes (Szegedy et al.,
            2016).
        loss: Class of a loss of logits (B, C) and labels (B,), such as torch.nn.MultiMarginLoss, instead of the
            cross-entropy with its weights and smoothing.
        metrics: Classes of torchmetrics that are logged beside `acc`, by their names in snake case without
            `Multiclass`: `val/f1_score` of MulticlassF1Score. Their `num_classes` is filled in.
        kwargs: `input_shape`, `optimizer`, `lr_scheduler`, `lr_interval` and `init_from`, as for every task.
    """

    def __init__(
        self,
        num_classes: int,
        class_weights: list[float] | Literal["balanced"] | None = None,
        label_smoothing: float = 0.0,
        loss: LossFactory | None = None,
        metrics: Sequence[MetricFactory] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_classes is None:  # from the command line, if the data have none
            raise UserError(f"{type(self).__name__} needs class labels (num_classes), and its data have none")
        self.num_classes = num_classes
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self._weight: Tensor | None = None
        if loss is not None and (class_weights is not None or label_smoothing):
            raise UserError(
                "class_weights and label_smoothing belong to the task's own cross-entropy: leave them out, or the loss"
            )
        self.set_loss_and_metrics(loss, metrics)

    def on_fit_start(self) -> None:
        """Load the initial weights, and turn `class_weights` into a tensor on the device.

        Raises:
            UserError: The number of weights is not C; or, for `balanced`, a class has no training sample or the data
                have no labels.
        """
        super().on_fit_start()
        if self.class_weights is not None:
            balanced = self.class_weights == "balanced"
            data = self.trainer.datamodule if balanced else None  # type: ignore[attr-defined]
            self._weight = class_weight_tensor(self.class_weights, self.num_classes, data).to(self.device)

    @property
    def backbone(self) -> nn.Module:
        """The network without its last layer, for `Finetuning`; only a sequential network can be cut like this."""
        if not isinstance(self.network, nn.Sequential):
            raise AttributeError(f"the network of {type(self).__name__} is not sequential")
        return self.network[:-1]

    def example_output_and_target(self) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and labels (B,)."""
        samples = 4 + (self.num_classes == 4)  # never C: a loss that needs targets (B, C) would broadcast labels
        logits = torch.linspace(0, 1, samples * self.num_classes).reshape(samples, self.num_classes)
        return logits, torch.arange(samples) % self.num_classes

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy, in nats, or the value of the chosen `loss`.

        Args:
            output: Logits (B, C).
            y: Labels (B,), or in training the probability of each class, (B, C).
        """
        if self.loss_function is not None:
            loss: Tensor = self.loss_function(output, y)
            return loss
        if not self.training:
            return F.cross_entropy(output, y)
        return weighted_cross_entropy(output, y, self._weight, self.label_smoothing)

    def update_metrics(self, split: str, output: Tensor, y: Tensor, loss: Tensor) -> None:
        """Add a batch to the metrics of `split`; of probabilities (B, C), they get the most likely class."""
        super().update_metrics(split, output, y.argmax(dim=1) if y.is_floating_point() else y, loss)

    def configure_metrics(self) -> dict[str, Metric]:
        """Return the accuracy: the fraction of all samples that are classified correctly."""
        return {"acc": MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)}

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Return the most likely `class` (B,), its `probability` (B,), and all `probabilities` (B, C).

        A batch with labels (B,) adds them as `truth`.
        """
        x, *targets = [batch] if isinstance(batch, Tensor) else batch
        probabilities = self(x).float().softmax(dim=1)
        probability, label = probabilities.max(dim=1)
        has_labels = targets and isinstance(targets[0], Tensor) and targets[0].shape == label.shape
        truth = {"truth": targets[0]} if has_labels else {}
        return {"class": label, **truth, "probability": probability, "probabilities": probabilities}


class Regressor(Task):
    """Regression with the mean squared error.

    Args:
        out_features: Number of values to predict; from the data.
        loss: Class of a loss of outputs and targets (B, out_features), such as torch.nn.HuberLoss, instead of the
            mean squared error, in every split.
        metrics: Classes of torchmetrics that are logged beside `mae`, by their names in snake case: `val/r2_score` of
            R2Score. They get outputs and targets (B,) if `out_features` is 1.
        kwargs: `input_shape`, `optimizer`, `lr_scheduler`, `lr_interval` and `init_from`, as for every task.
    """

    def __init__(
        self,
        out_features: int,
        loss: LossFactory | None = None,
        metrics: Sequence[MetricFactory] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if out_features is None:  # from the command line, if the data have none
            raise UserError(f"{type(self).__name__} needs real targets (out_features), and its data have none")
        self.out_features = out_features
        self.set_loss_and_metrics(loss, metrics)

    def example_output_and_target(self) -> tuple[Tensor, Tensor]:
        """Return outputs and targets (B, out_features), all positive, as some metrics need them."""
        output = torch.linspace(0.1, 0.9, 4 * self.out_features).reshape(4, self.out_features)
        return output, output.flip(0)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean squared error of outputs and targets (B, out_features), or the value of the chosen `loss`.

        Raises:
            UserError: The shapes differ, and torch would broadcast them.
        """
        if output.shape != y.shape:
            raise UserError(
                f"targets {tuple(y.shape)} do not fit outputs {tuple(output.shape)}: give (B, out_features)"
            )
        if self.loss_function is not None:
            loss: Tensor = self.loss_function(output, y)
            return loss
        return F.mse_loss(output, y)

    def configure_metrics(self) -> dict[str, Metric]:
        """Return the mean absolute error, in the target's unit."""
        return {"mae": MeanAbsoluteError()}

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Return the predicted values, `y0`, `y1`, ... each (B,)."""
        x = batch if isinstance(batch, Tensor) else batch[0]
        return {f"y{i}": column for i, column in enumerate(self(x).float().unbind(dim=1))}


class NetworkClassifier(Classifier):
    """A classifier around any network.

    Args:
        network: Maps (B, *input_shape) to logits (B, num_classes). In YAML, a `class_path` with `init_args`.
        kwargs: The arguments of `Classifier`.
    """

    def __init__(self, network: nn.Module, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
