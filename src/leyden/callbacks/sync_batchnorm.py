"""`--trainer.sync_batchnorm true` on CPUs as well, where torch's SyncBatchNorm does not go."""

from typing import Any

import torch
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm  # no public name stands for all kinds

from leyden.errors import UserError


def check_batch_norms(model: nn.Module) -> None:
    """Refuse kinds of batch-norm that do more than normalise: torch's SyncBatchNorm would take their place too.

    Raises:
        UserError: There is one, such as timm's BatchNormAct2d, which is an activation as well.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm) and type(module) not in (*SYNCHRONIZED, nn.SyncBatchNorm):
            raise UserError(
                f"--trainer.sync_batchnorm true would replace {type(module).__name__} by a plain batch-norm, and what "
                "it adds to batch-norm would be lost: set --trainer.sync_batchnorm false"
            )


class SyncBatchNorm(TorchSyncBatchNorm):
    """Take the mean and variance of each batch-norm over the batches of all processes, on GPUs and CPUs.

    With one process, or without batch-norm, nothing changes. When training ends, Lightning puts batch-norm back.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace each BatchNorm1d, 2d and 3d; parameters, buffers and their names stay."""
        if distributed.get_world_size() == 1:
            return model
        if distributed.get_backend() != "gloo":  # the model is moved to its GPU only after this
            return super().apply(model)
        for module in model.modules():
            if type(module) in SYNCHRONIZED:
                module.__class__ = SYNCHRONIZED[type(module)]
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Put batch-norm back."""
        plain = {synchronized: kind for kind, synchronized in SYNCHRONIZED.items()}
        for module in model.modules():
            if type(module) in plain:
                module.__class__ = plain[type(module)]
        return super().revert(model)


class _OverProcesses(_BatchNorm):
    """Batch-norm (Ioffe and Szegedy, 2015) that normalises by the batches of all processes.

    Each sample weighs the same, also where the processes have batches of different sizes.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """Normalise (B, C, ...) by channel."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        output: Tensor = self._normalize(input)
        return output

    # each process compiles by itself, and all must call their collectives in the same order
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _normalize(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.to(torch.promote_types(dtype, torch.float32))  # sums of 16 bits would lose digits
        dims = [0, *range(2, x.ndim)]
        shape = [-1] + [1] * (x.ndim - 2)  # (C, 1, ...) broadcasts over (B, C, ...)
        count = x.new_tensor([x.numel() / x.shape[1]])  # of numbers in a channel
        sums: Tensor = _SumOverProcesses.apply(torch.cat([x.sum(dims), count]))
        count = sums[-1].detach()
        mean = sums[:-1] / count  # (C,)
        centered = x - mean.view(shape)
        # a second collective: the mean of the squares less the square of the mean would lose digits
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
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        # no momentum asks for the mean over all batches so far
        newest = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, newest)
        self.running_var.lerp_(variance, newest)


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
    """The sum of a tensor over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total: Tensor = _SumOverProcesses.apply(gradient)
        return total
