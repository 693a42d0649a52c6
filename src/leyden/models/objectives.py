"""The loss and the metrics that a configuration names, built and tried before training."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.aggregation import BaseAggregator

from leyden.errors import UserError

LossFactory = Callable[[], nn.Module]
METRIC_ERRORS = (ValueError, TypeError, IndexError)  # about its arguments; a lost rank is a RuntimeError


class MetricFactory(Protocol):
    """Builds a metric. jsonargparse leaves the argument named here out of a configuration: the task fills it in."""

    def __call__(self, *, num_classes: int) -> Metric:
        """Build a metric for `num_classes` classes."""
        ...


def metric_name(metric: Metric) -> str:
    """Return the name under which a metric is logged: that of its class in snake case, without the kind of task.

    For example `f1_score` for `MulticlassF1Score`, `auroc` for `MulticlassAUROC`, `r2_score` for `R2Score`.
    """
    name = re.sub("^(Binary|Multiclass|Multilabel)(?=.)", "", type(metric).__name__)
    return re.sub("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def with_sizes(factories: Iterable[MetricFactory], num_classes: int | None = None) -> list[Callable[[], Metric]]:
    """Fill in the argument `num_classes` of the metrics that have it.

    Args:
        factories: Classes of metrics, or partials of them.
        num_classes: The number of classes; None if the task has none.

    Raises:
        UserError: One is not a class, so a checkpoint could not name it.
    """
    return [_with_size(factory, num_classes) for factory in factories]


def _with_size(factory: Any, num_classes: int | None) -> Callable[[], Metric]:
    cls = _class_of(factory, "metrics")
    if "num_classes" in getattr(factory, "keywords", {}):
        raise UserError(f"metrics: leave num_classes of {cls.__name__} out, it is filled in")
    # unlike inspect.signature, this follows **kwargs to the base class
    arguments = ArgumentParser().add_class_arguments(cls, "x", fail_untyped=False)
    fills = num_classes is not None and "x.num_classes" in arguments
    return partial(factory, num_classes=num_classes) if fills else factory


def _class_of(factory: Any, argument: str) -> type:
    """Return the class that a factory builds: a checkpoint holds its name."""
    parts = (factory, getattr(factory, "func", None), *getattr(factory, "args", ()))  # jsonargparse puts it into `args`
    for part in parts:
        if isinstance(part, type):
            return part
    raise UserError(f"{argument}: {factory!r} is no class and no functools.partial of one")


def build_metrics(factories: Iterable[Callable[[], Metric]]) -> dict[str, Metric]:
    """Build the metrics of one split, by name."""
    return {metric_name(metric): metric for metric in (factory() for factory in factories)}


def as_metric_inputs(output: Tensor, target: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return outputs and targets as metrics take them: real numbers in `dtype`, and (B, 1) as (B,)."""
    if target.is_floating_point():
        target = target.to(dtype)
    if output.shape == target.shape and output.ndim > 1:
        output, target = output.squeeze(1), target.squeeze(1)
    return output.to(dtype), target


def check_metrics(
    factories: Iterable[Callable[[], Metric]], taken: Iterable[str], output: Tensor, target: Tensor
) -> None:
    """Build each metric and update it once.

    Args:
        factories: Build the metrics.
        taken: Names that are in use already.
        output: An example of the network's output.
        target: An example of its target.

    Raises:
        UserError: A name is taken, or a metric cannot be built, does not take the example or gives several numbers.
    """
    names = set(taken)
    for factory in factories:
        with warnings.catch_warnings(), as_user_error("metrics", (Exception,)):
            warnings.simplefilter("ignore")
            metric = factory().set_dtype(torch.float64)
        name, kind = metric_name(metric), type(metric).__name__
        title = f"metrics: {kind}"
        if name in names:
            raise UserError(f"{title} would be logged as {name}, a name that is taken: subclass it under another one")
        names.add(name)
        if isinstance(metric, BaseAggregator) or any(isinstance(m, Metric) for m in list(metric.modules())[1:]):
            raise UserError(f"{title} does not compare outputs with targets by itself: name the metric that does")
        fix = " a logit for each class (take the Multiclass one)" if kind.startswith(("Binary", "Multilabel")) else ""
        with warnings.catch_warnings(), as_user_error(f"{title} does not fit{fix}", (Exception,)):
            warnings.simplefilter("ignore")
            metric.update(*as_metric_inputs(output, target, torch.float64))
            value = metric.compute()
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise UserError(f"{title} gives more than one number: choose another average, such as macro, where it has")


def build_loss(factory: LossFactory, output: Tensor, target: Tensor) -> nn.Module:
    """Build a loss and compute it once.

    Args:
        factory: Class of the loss, or a partial of it.
        output: An example of the network's output.
        target: An example of its target.

    Raises:
        UserError: It is not a class, cannot be built, does not take the example, or is not a mean over samples.
    """
    _class_of(factory, "loss")
    with warnings.catch_warnings(), as_user_error("loss", (Exception,)):
        warnings.simplefilter("ignore")
        loss = factory()
    title = f"loss: {type(loss).__name__}"
    if isinstance(loss, nn.NLLLoss):
        raise UserError(f"{title} takes log-probabilities, but networks here emit logits: take CrossEntropyLoss")
    if getattr(loss, "reduction", "mean") in ("none", "sum"):
        raise UserError(f"{title} has reduction {loss.reduction}, but losses here are means over the samples")
    with warnings.catch_warnings(), as_user_error(f"{title} does not fit", (Exception,)):
        warnings.simplefilter("ignore")
        value: Any = loss(output, target)
    if not isinstance(value, Tensor) or value.ndim:
        raise UserError(f"{title} does not give one number for a batch")
    if value == 0:
        shapes = f"outputs {tuple(output.shape)} and other targets {tuple(target.shape)}"
        raise UserError(f"{title} does not fit: for {shapes} it is 0")
    return loss


@contextmanager
def as_user_error(title: str, errors: tuple[type[Exception], ...] = METRIC_ERRORS) -> Iterator[None]:
    """Turn an error of a loss or a metric into one line.

    Raises:
        UserError: The block has raised one of `errors`.
    """
    try:
        yield
    except errors as error:
        # without a cause: the command line would show that instead
        raise UserError(f"{title}: {' '.join(str(error).split())}") from None
