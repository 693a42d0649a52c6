"""`--trainer.sync_batchnorm true` also on CPUs, which torch's SyncBatchNorm does not support."""

from typing import Any

import torch
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import Tensor, distributed, nn

from leyden.errors import UserError


def check_batch_norms(model: nn.Module) -> None:
    """Refuse subclasses of batch-norm, which do more than normalise: torch's SyncBatchNorm would replace them too.

    Raises:
        UserError: There is one, such as timm's BatchNormAct2d, which includes an activation.
    """
    lazy = (nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d)  # no subclasses of BatchNorm1d, 2d and 3d
    for module in model.modules():
        if isinstance(module, (*SYNCHRONIZED, *lazy)) and type(module) not in SYNCHRONIZED:
            raise UserError(
                f"--trainer.sync_batchnorm true would replace {type(module).__name__} by a plain batch-norm, and what "
                "it adds to batch-norm would be lost: set --trainer.sync_batchnorm false"
            )


class SyncBatchNorm(TorchSyncBatchNorm):
    """Compute the mean and variance of each batch-norm over the batches of all processes, on GPUs and CPUs.

    With one process, or without batch-norm, nothing changes. When training ends, Lightning calls `revert`.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace each BatchNorm1d, 2d and 3d; parameters, buffers and their names do not change."""
        if distributed.get_world_size() == 1:
            return model
        if distributed.get_backend() != "gloo":  # not a test of the device: the model is moved to its GPU later
            return super().apply(model)
        for module in model.modules():
            if type(module) in SYNCHRONIZED:
                module.__class__ = SYNCHRONIZED[type(module)]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Restore batch-norm."""
        plain = {synchronized: kind for kind, synchronized in SYNCHRONIZED.items()}
        for module in model.modules():
            if type(module) in plain:
                module.__class__ = plain[type(module)]
        return super().revert(model)


class _OverProcesses(nn.Module):
    """Batch-norm (Ioffe and Szegedy, 2015) that normalises by the batches of all processes.

    Each sample has the same weight, also if the batches of the processes differ in size. Precedes a batch-norm of
    torch in the list of base classes, which has the parameters, the buffers and the evaluation.
    """

    eps: float
    momentum: float | None
    track_running_stats: bool
    weight: Any  # tensors (C,), or None
    bias: Any
    running_mean: Any
    running_var: Any
    num_batches_tracked: Any

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """Normalise (B, C, ...) by channel."""
        if not self.training:
            evaluated: Tensor = super().forward(input)
            return evaluated
        output: Tensor = self._normalize(input)
        return output

    # each process compiles separately, but all must call their collectives in the same order
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _normalize(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.to(torch.promote_types(dtype, torch.float32))  # 16-bit sums would lose precision
        dims = [0, *range(2, x.ndim)]
        shape = [-1] + [1] * (x.ndim - 2)  # (C, 1, ...) broadcasts over (B, C, ...)
        count = x.new_tensor([x.numel() / x.shape[1]])  # of values in a channel
        sums: Tensor = _SumOverProcesses.apply(torch.cat([x.sum(dims), count]))
        count = sums[-1].detach()
        mean = sums[:-1] / count  # (C,)
        centered = x - mean.view(shape)
        # a second collective, as the mean of squares minus the square of the mean would lose precision
        variance: Tensor = _SumOverProcesses.apply(centered.square().sum(dims)) / count  # (C,)
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        output = centered * scale.view(shape)
        if self.bias is not None:
            output = output + self.bias.view(shape)
        return output.to(dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        # None is the mean over all batches so far
        momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class SyncBatchNorm1d(_OverProcesses, nn.BatchNorm1d):
    """BatchNorm1d over the batches of all processes."""


class SyncBatchNorm2d(_OverProcesses, nn.BatchNorm2d):
    """BatchNorm2d over the batches of all processes."""


class SyncBatchNorm3d(_OverProcesses, nn.BatchNorm3d):
    """BatchNorm3d over the batches of all processes."""


SYNCHRONIZED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncBatchNorm1d,
    nn.BatchNorm2d: SyncBatchNorm2d,
    nn.BatchNorm3d: SyncBatchNorm3d,
}


class _SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total: Tensor = _SumOverProcesses.apply(gradient)
        return total
