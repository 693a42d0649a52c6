"""End a run whose training loss is NaN or infinite."""

import math

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from leyden.data.samplers import ResumableSampler
from leyden.errors import RunError
from leyden.runs.directory import LAST, run_directory


class FiniteLoss(Callback):
    """Raise an error that names the batch when a training loss is not finite, before the weights are updated with it.

    On a GPU, where reading a loss makes the CPU wait, losses are read together every `log_every_n_steps` batches, at
    the end of an epoch, and before each checkpoint.
    """

    def __init__(self) -> None:
        self._losses: dict[int, Tensor] = {}  # those not read yet, by batch

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run's directory."""
        self._last = run_directory(trainer) / "checkpoints" / LAST

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the device."""
        self._on_cpu = pl_module.device.type == "cpu"

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Check the loss, on a GPU later together with others.

        Raises:
            RunError: It is not finite.
        """
        if self._on_cpu and math.isfinite(loss.item()):
            return
        self._losses[trainer.fit_loop.batch_idx] = loss.detach()
        if self._on_cpu or len(self._losses) >= trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the losses not read yet.

        Raises:
            RunError: One is not finite.
        """
        self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: object) -> None:
        """Check the losses not read yet, before any file is touched.

        Raises:
            RunError: One is not finite.
        """
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        losses, self._losses = self._losses, {}
        if not losses or all(map(math.isfinite, torch.stack(list(losses.values())).tolist())):
            return
        batch_idx, loss = next((b, float(loss)) for b, loss in losses.items() if not math.isfinite(loss))
        where = f"epoch {trainer.current_epoch}, batch {batch_idx}"
        sampler = getattr(trainer.train_dataloader, "sampler", None)
        if isinstance(sampler, ResumableSampler):
            start = batch_idx * sampler.batch_size
            indices = sampler.rank_indices(trainer.current_epoch)[start : start + sampler.batch_size]
            where += f", training samples {' '.join(map(str, indices))}"
        good = f"the last good checkpoint is {self._last}" if self._last.exists() else "there is no checkpoint yet"
        raise RunError(
            f"the training loss is {loss} at step {trainer.global_step} ({where}); {good}; "
            "try a smaller learning rate, or --trainer.gradient_clip_val 1"
        )
