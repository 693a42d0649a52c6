"""Metrics of one split over an epoch, updated for many batches at once."""

import torch
from torch import Tensor
from torchmetrics import Metric

from leyden.errors import UserError
from leyden.models.objectives import as_metric_inputs, as_user_error

MAX_WAITING_VALUES = 2**18  # values of the network's output, 1 MiB in float32


class EpochMetrics:
    """Update metrics in few large steps: an update takes about as long for many batches as for one.

    Sums are in float64, so the result does not depend on when the waiting batches are flushed.

    Args:
        metrics: The metrics by name. `loss` is a mean that is updated with the losses, each other metric is updated
            with the network's outputs and the targets.
        split: Name of the split, for error messages.
        device: Device of the network's output.
    """

    def __init__(self, metrics: dict[str, Metric], split: str, device: torch.device) -> None:
        self.dtype = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        self.metrics = {name: metric.to(device).set_dtype(self.dtype) for name, metric in metrics.items()}
        self.split = split
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []  # output, target and loss of each batch

    def add(self, output: Tensor, y: Tensor, loss: Tensor) -> None:
        """Add a batch, whose update may wait.

        Args:
            output: Output of the network, (B, ...).
            y: Targets, (B, ...).
            loss: Mean loss of the batch, a scalar.
        """
        self._waiting.append((output.detach(), y, loss.detach()))
        if len(self._waiting) * output.numel() >= MAX_WAITING_VALUES:
            self.flush()

    def flush(self) -> None:
        """Update the metrics with the batches that wait.

        Raises:
            UserError: A metric does not take them.
        """
        if not self._waiting:
            return
        outputs, targets, losses = zip(*self._waiting, strict=True)
        self._waiting = []
        if targets[0].ndim == 0:
            raise UserError("a batch has one target of shape (), without a batch dimension: give targets (B, ...)")
        sizes = torch.tensor([len(output) for output in outputs], device=losses[0].device)
        output, y = as_metric_inputs(torch.cat(outputs), torch.cat(targets), self.dtype)
        for name, metric in self.metrics.items():
            if name == "loss":
                # once per sample, so that a smaller last batch weighs less. Not by `weight=`: torchmetrics 1.9 ignores
                # it with nan_strategy="disable", which is needed to let NaN through
                metric.update(torch.stack(losses).repeat_interleave(sizes))
            else:
                with as_user_error(f"{self.split}/{name}"):
                    metric.update(output, y)

    def compute(self) -> dict[str, Tensor]:
        """Return the values over all batches and ranks, each a float32 scalar, and reset the metrics.

        Raises:
            UserError: A metric cannot be computed.
        """
        self.flush()
        values = {}
        for name, metric in self.metrics.items():
            with as_user_error(f"{self.split}/{name}"):
                values[name] = metric.compute().float()
            metric.reset()
        return values
