"""Cross-entropy with a weight for each class."""

from typing import Any, Literal

import torch
from torch import Tensor, distributed
from torch.nn import functional as F  # noqa: N812

from leyden.errors import UserError


def class_weight_tensor(weights: list[float] | Literal["balanced"], num_classes: int, data: Any) -> Tensor:
    """Return the weight of each class, (C,).

    Args:
        weights: The weights, or `balanced`: N / (C x samples of the class), counted over the training labels.
        num_classes: Number of classes C.
        data: The DataModule, whose `train_set` has the labels.

    Raises:
        UserError: The number of weights is not C; or, for `balanced`, a class has no training sample or the data have
            no labels.
    """
    if weights == "balanced":
        if not hasattr(getattr(data, "train_set", None), "labels"):
            raise UserError(
                f"class_weights balanced counts the labels of train_set, and {type(data).__name__} has none: give "
                f"{num_classes} numbers"
            )
        counts = data.train_set.labels.bincount(minlength=num_classes)
        if not counts.all():
            raise UserError(f"class_weights balanced: class {int(counts.argmin())} has no training sample")
        weight: Tensor = counts.sum() / (num_classes * counts)
    else:
        weight = torch.tensor(weights)
    if len(weight) != num_classes:
        raise UserError(f"class_weights has {len(weight)} numbers, but there are {num_classes} classes")
    return weight


def weighted_cross_entropy(output: Tensor, y: Tensor, weight: Tensor | None, label_smoothing: float) -> Tensor:
    """Return the mean cross-entropy over the samples of all processes, each with the weight of its classes, in nats.

    With a label smoothing s and class weights w it is -sum(w_c q_nc log p_nc) / sum(w_c y_nc), summed over the samples
    n and the classes c. Here p is the network's probability, y the target's, and q = (1 - s) y + s / C.

    Args:
        output: Logits (B, C).
        y: Labels (B,), or the probability of each class, (B, C).
        weight: Weight of each class, (C,); None for 1.
        label_smoothing: Part of the target's probability that is spread evenly over all classes.
    """
    options: dict[str, Any] = {"weight": weight, "label_smoothing": label_smoothing}
    several_ranks = distributed.is_available() and distributed.is_initialized()
    if weight is None or not (several_ranks or y.is_floating_point()):
        return F.cross_entropy(output, y, **options)
    # for probabilities, the mean of torch is over samples, whatever their weights
    loss = F.cross_entropy(output, y, reduction="sum", **options)
    total = (y * weight if y.is_floating_point() else weight[y]).sum()
    if several_ranks:
        # DDP averages the gradients of the ranks; the average of these losses is the weighted mean over all samples
        distributed.all_reduce(total)
        loss = loss * distributed.get_world_size()
    return loss / total
