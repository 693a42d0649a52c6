"""Split training samples into training and validation."""

import torch
from torch import Tensor

from leyden.errors import UserError


def draw_split(y: Tensor, val_size: int, seed: int, stratify: bool = False) -> tuple[Tensor, Tensor]:
    """Draw the validation samples; the split depends on nothing but the arguments.

    Args:
        y: Targets of the N samples, (N, ...).
        val_size: Number of validation samples.
        seed: Seed of the draw.
        stratify: Whether to draw the same fraction of each class; then `y` are labels (N,).

    Returns:
        The indices of the training and of the validation samples, each in ascending order.

    Raises:
        UserError: `val_size` leaves no sample on one side.
    """
    if not 0 < val_size < len(y):
        raise UserError(f"val_size must be 1 to {len(y) - 1} of the {len(y)} training samples, but is {val_size}")
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    if stratify:
        order = _stratified(order, y, val_size)
    return order[val_size:].sort().values, order[:val_size].sort().values


def _stratified(order: Tensor, y: Tensor, val_size: int) -> Tensor:
    """Reorder a permutation so that its first `val_size` samples hold the same fraction of each class.

    For class c these are val_size n_c / N samples, rounded by the largest remainder (ties: the lower class first). The
    permutation determines which samples.

    Args:
        order: Permutation of the samples, (N,).
        y: Labels, (N,).
        val_size: Number of samples in front.
    """
    labels = y[order]
    quotas = val_size * labels.bincount()  # (C,), in units of 1 / N
    counts = quotas // len(y)
    remainders = quotas % len(y)
    counts[remainders.argsort(descending=True, stable=True)[: val_size - int(counts.sum())]] += 1
    in_front = torch.zeros(len(y), dtype=torch.bool)
    for label, count in enumerate(counts.tolist()):
        in_front[(labels == label).nonzero().flatten()[:count]] = True
    return torch.cat([order[in_front], order[~in_front]])
