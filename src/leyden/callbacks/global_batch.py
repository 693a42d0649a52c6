"""How many samples an optimizer step takes, where that is not `batch_size`."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler


class ResumedAccumulation(Callback):
    """Accumulate as the schedule says in the rest of a resumed epoch, in which Lightning would accumulate nothing."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Call the hook that Lightning leaves out of a resumed epoch."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GradientAccumulationScheduler):
                callback.on_train_epoch_start(trainer)


class GlobalBatch(Callback):
    """Print the samples of an optimizer step, where several processes or batches share it.

    `batch_size` is per process, and nothing scales the learning rate:
    `batch 256 = 2 processes x 32 x 4 accumulated; the learning rate stays 0.02`. Printed as training starts, and again
    at an epoch that accumulates another number of batches.
    """

    def __init__(self) -> None:
        self._printed = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line, also of a run that is resumed in the middle of an epoch."""
        self._print_line(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line where another number of batches is accumulated from this epoch on."""
        self._print_line(trainer)

    def _print_line(self, trainer: Trainer) -> None:
        processes = (trainer.distributed_sampler_kwargs or {}).get("num_replicas", 1)
        accumulated = trainer.accumulate_grad_batches
        size = getattr(trainer.train_dataloader, "batch_size", None)  # other people's loaders may not say
        if size is None or processes * accumulated == 1 or not trainer.is_global_zero:
            return
        factors = [f"{processes} processes"] * (processes > 1) + [str(size)]
        factors += [f"{accumulated} accumulated"] * (accumulated > 1)
        line = f"batch {processes * size * accumulated} = {' x '.join(factors)}"
        rates = {optimizer.defaults.get("lr") for optimizer in trainer.optimizers}
        if len(rates) == 1 and None not in rates:
            line += f"; the learning rate stays {rates.pop():g}"
        if line != self._printed:
            print(line, flush=True)
            self._printed = line
