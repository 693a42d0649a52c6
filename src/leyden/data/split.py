"""Split training samples into training and validation: a single split, or the folds of a cross-validation."""

from collections.abc import Mapping
from typing import Any

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


def check_folds(folds: int | None, fold: int | None) -> None:
    """Check the options of a cross-validation.

    Raises:
        UserError: Only one of them is given, or one is out of range.
    """
    if folds is None and fold is None:
        return
    if folds is None:
        raise UserError("data.fold says which of data.folds parts is the validation split: give data.folds too")
    if folds < 2:
        raise UserError(f"data.folds must be 2 or more, but is {folds}")
    if fold is None or not 0 <= fold < folds:
        raise UserError(f"data.fold must be 0 to {folds - 1}, one of the {folds} data.folds, but is {fold}")


def draw_fold(y: Tensor, folds: int, fold: int, seed: int, stratify: bool) -> tuple[Tensor, Tensor]:
    """Draw the validation samples of one fold; the folds depend on nothing but the other arguments.

    The sizes of two folds differ by one sample at most; stratified, so do their numbers of samples of each class.

    Args:
        y: Targets of the N samples, (N, ...).
        folds: Number of folds.
        fold: The fold whose samples are for validation.
        seed: Seed of the draw.
        stratify: Whether each fold holds the same fraction of each class; then `y` are labels (N,).

    Returns:
        The indices of the training and of the validation samples, each in ascending order.

    Raises:
        UserError: There are more folds than samples, or than samples of a class.
    """
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    if folds > len(y):
        raise UserError(f"data.folds is {folds}, but there are {len(y)} training samples: use fewer folds")
    if stratify:
        check_class_counts(folds, {label: count for label, count in enumerate(y.bincount().tolist()) if count})
        order = order[y[order].argsort(stable=True)]  # deal one class after the other
    is_val = torch.arange(len(y)) % folds == fold
    return order[~is_val].sort().values, order[is_val].sort().values


def check_class_counts(folds: int, counts: Mapping[Any, int]) -> None:
    """Refuse folds of which some would have no validation sample of a class.

    Args:
        folds: Number of folds.
        counts: {class: its number of training and validation samples}.

    Raises:
        UserError: A class has fewer samples than there are folds.
    """
    label, count = min(counts.items(), key=lambda item: item[1])
    if count < folds:
        raise UserError(f"data.folds is {folds}, but class {label} has {count} training samples: use fewer folds")


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
