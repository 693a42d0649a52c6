"""The number of processes, and of samples in an optimizer step, if it is not `batch_size`."""

import math

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler


class ResumedAccumulation(Callback):
    """Apply the accumulation schedule to the rest of a resumed epoch, in which Lightning would not accumulate."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Call the hook that Lightning skips in a resumed epoch."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GradientAccumulationScheduler):
                callback.on_train_epoch_start(trainer)


class GlobalBatch(Callback):
    """Print the number of samples in an optimizer step if it spans several processes or batches.

    `batch_size` is per process, and the learning rate is not scaled:
    `2 processes on 1 node; batch 256 = 2 processes x 32 x 4 accumulated; 40 steps an epoch; the learning rate stays
    0.02`. The line is printed when training starts, and again in an epoch with another number of accumulated batches.
    """

    def __init__(self) -> None:
        self._printed = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line, also in a run that resumes in mid-epoch."""
        self._print_line(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line again if the number of accumulated batches changes."""
        self._print_line(trainer)

    def _print_line(self, trainer: Trainer) -> None:
        processes = (trainer.distributed_sampler_kwargs or {}).get("num_replicas", 1)
        accumulated = trainer.accumulate_grad_batches
        if max(processes, trainer.world_size) * accumulated == 1 or not trainer.is_global_zero:
            return
        parts, nodes = [], f"{trainer.num_nodes} node{'s' * (trainer.num_nodes > 1)}"
        if trainer.world_size > 1:
            parts.append(f"{trainer.world_size} processes on {nodes}")
        size = getattr(trainer.train_dataloader, "batch_size", None)  # not every loader has one
        if size is not None:
            factors = [f"{processes} processes"] * (processes > 1) + [str(size)]
            factors += [f"{accumulated} accumulated"] * (accumulated > 1)
            parts.append(f"batch {processes * size * accumulated} = {' x '.join(factors)}")
        if math.isfinite(trainer.num_training_batches):
            steps = math.ceil(trainer.num_training_batches / accumulated)
            parts.append(f"{steps} step{'s' * (steps > 1)} an epoch")
        rates = {optimizer.defaults.get("lr") for optimizer in trainer.optimizers}
        if len(rates) == 1 and None not in rates:
            parts.append(f"the learning rate stays {rates.pop():g}")
        line = "; ".join(parts)
        if line != self._printed:
            print(line, flush=True)
            self._printed = line
