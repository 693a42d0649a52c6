"""Measurements of training for all loggers: learning rate, speed, number of parameters, gradient norm."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor
from torch.optim import Optimizer

from leyden.models.logging_steps import is_logging_step
from leyden.runs.metrics_logger import MetricsLogger
from leyden.runs.wandb import RunWandbLogger


class TrainingMonitor(Callback):
    """Log the learning rate and the speed of training, and count the model's parameters.

    `lr` is logged with each `train/loss_step` and at the end of each epoch; `lr/1`, `lr/2`, ... belong to further
    parameter groups. `samples_per_second`, over the epoch without its validation, is logged to all loggers but
    `metrics.csv`, which must be equal when a run is repeated. It is not logged if batches contain no tensor.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the parameters and start the clock: a run that resumes in mid-epoch has no `on_train_epoch_start`."""
        self.on_train_epoch_start(trainer, pl_module)
        self._read_rates(trainer)
        sizes = [(p.numel(), p.requires_grad) for p in pl_module.parameters()]
        counts = {
            "parameters": sum(n for n, _ in sizes),
            "trainable_parameters": sum(n for n, trainable in sizes if trainable),
        }
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(counts)
            if isinstance(logger, RunWandbLogger):
                logger.model_checkpoint = trainer.checkpoint_callback

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()
        self.samples = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples."""
        self.samples += batch_size(batch)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the clock."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.started += time.perf_counter() - self.paused

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the rate on the steps that log."""
        self._read_rates(trainer)
        if is_logging_step(trainer):
            self._log_rates(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the rate and the speed."""
        self._log_rates(pl_module)  # of the last step: the schedule has been stepped since
        speed = self.samples * trainer.world_size / (time.perf_counter() - self.started)
        row = {"samples_per_second": speed, "epoch": trainer.current_epoch}
        # as Lightning counts for loggers: with manual optimization, each batch is one step
        steps = trainer.global_step if pl_module.automatic_optimization else trainer.fit_loop.total_batch_idx + 1
        for logger in trainer.loggers:
            if not isinstance(logger, MetricsLogger) and speed:
                logger.log_metrics(row, step=steps - 1)

    def _read_rates(self, trainer: Trainer) -> None:
        self.rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]

    def _log_rates(self, pl_module: LightningModule) -> None:
        pl_module.log_dict({f"lr/{i}" if i else "lr": float(rate) for i, rate in enumerate(self.rates)})


def batch_size(batch: Any) -> int:
    """Return the length of the first tensor in a batch of nested tuples, lists and dicts; 0 without a tensor."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    if not isinstance(batch, (tuple, list)):  # checked first, as isinstance with Mapping is slower
        batch = batch.values() if isinstance(batch, Mapping) else ()
    for part in batch:
        if size := batch_size(part):
            return size
    return 0


class GradientNorm(Callback):
    """Log `train/grad_norm`, the Euclidean norm of all gradients before any clipping, on the steps that log."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the norm."""
        if is_logging_step(trainer):
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            pl_module.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients))
