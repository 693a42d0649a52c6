"""What is measured of a training, for every logger: learning rate, speed, size, gradients."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from torch import Tensor
from torch.optim import Optimizer

from leyden.runs.wandb import RunWandbLogger


class TrainingMonitor(Callback):
    """Log the learning rate and the speed of training, and count the model's parameters.

    `lr` is logged with each `train/loss_step` and at each epoch's end; `lr/1`, `lr/2`, ... are those of further groups
    of parameters. `samples_per_second`, over the epoch without its validation, goes to every logger but `metrics.csv`,
    which is the same whenever a run is repeated; where batches hold no tensor, nobody knows it.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the parameters, and start the clock of an epoch that is resumed in its middle."""
        self.on_train_epoch_start(trainer, pl_module)
        self._read_rates(trainer)
        sizes = [(p.numel(), p.requires_grad) for p in pl_module.parameters()]
        counts = {
            "parameters": sum(n for n, _ in sizes),
            "trainable_parameters": sum(n for n, wanted in sizes if wanted),
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
        """Let it go on."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.started += time.perf_counter() - self.paused

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log the rate of the steps that log."""
        self._read_rates(trainer)
        if (trainer.global_step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._log_rates(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the rate and the speed."""
        self._log_rates(pl_module)  # that of the last step: the schedule has gone on already
        speed = self.samples * trainer.world_size / (time.perf_counter() - self.started)
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger) and speed:
                row = {"samples_per_second": speed, "epoch": trainer.current_epoch}
                # private, but what Lightning logs by: global_step counts the steps of each of several optimizers
                logger.log_metrics(row, step=trainer.fit_loop.epoch_loop._batches_that_stepped - 1)

    def _read_rates(self, trainer: Trainer) -> None:
        self.rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]

    def _log_rates(self, pl_module: LightningModule) -> None:
        pl_module.log_dict({f"lr/{i}" if i else "lr": float(rate) for i, rate in enumerate(self.rates)})


def batch_size(batch: Any) -> int:
    """Return the length of a batch's first tensor, which may lie in tuples, lists and dicts; 0 without a tensor."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    if not isinstance(batch, (tuple, list)):  # first, as to ask for a Mapping takes longer
        batch = batch.values() if isinstance(batch, Mapping) else ()
    for part in batch:
        if size := batch_size(part):
            return size
    return 0


class GradientNorm(Callback):
    """Log `train/grad_norm`, the Euclidean norm of all gradients before any clipping, on the steps that log."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log it."""
        if (trainer.global_step + 1) % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            pl_module.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients))
