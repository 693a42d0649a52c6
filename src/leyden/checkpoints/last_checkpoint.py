"""When to save `last.ckpt`, so that a run resumes from it bit for bit."""

import math
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from leyden.durable import sync
from leyden.errors import UserError
from leyden.runs.directory import LAST, run_directory
from leyden.runs.metrics_logger import MetricsLogger

STEPS_BETWEEN_AGREEMENTS = 16  # of several ranks: a collective per step would make a GPU wait
CONTINUE, SAVE, STOP = range(3)  # what a rank asks for before a batch; all ranks do the greatest. STOP + a signal's
# number is the greater for SIGTERM than for SIGUSR1: a job that is to end is not queued again


class LastCheckpoint(Callback):
    """Save `checkpoints/last.ckpt`, from which `leyden fit --ckpt_path last` resumes bit for bit.

    It is saved after the first step, between epochs, at an interval, when training ends, and when `request_stop` has
    been called. It is always saved between two batches, after an optimizer step, and after the logged rows are on disk:
    only there can Lightning resume without losing or repeating anything. A request during validation waits for its end.

    Args:
        every_n_train_steps: Save every n optimizer steps as well; None for never.
        train_time_interval: Save when this much time has passed since the last save; None for never.
        min_interval: Save between two epochs only when this much time has passed since the last save, as waiting for
            the disk would slow down epochs of a second. After a kill, this much time and one epoch more may have to be
            trained again.
    """

    def __init__(
        self,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = timedelta(minutes=5),
        min_interval: timedelta = timedelta(seconds=10),
    ) -> None:
        self.every_n_train_steps = every_n_train_steps
        self.train_time_interval = math.inf if train_time_interval is None else train_time_interval.total_seconds()
        self.min_interval = min_interval.total_seconds()
        self.saved_step = 0
        self.stop_agreed = 0  # the signal for which all ranks stop, after the last save
        self._saved_time = 0.0
        self._stop_requested = 0  # the signal that this rank has received
        self._finished = False

    def request_stop(self, number: int) -> None:
        """Ask all ranks to save at the next moment at which a run can resume, and then to set `stop_agreed`.

        Args:
            number: The signal that asks for it.
        """
        self._stop_requested = number

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the directory."""
        self.directory = run_directory(trainer) / "checkpoints"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._note_save(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save between two epochs."""
        # with max_steps, Lightning would resume from here with an epoch that has no batches
        if trainer.global_step > self.saved_step and trainer.max_steps == -1:
            action = self._agree(trainer, due=self._has_passed(self.min_interval))
            self._act_before(trainer, trainer.fit_loop.epoch_progress, action)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save between two batches if it is time to."""
        every = self.every_n_train_steps
        due = self.saved_step == 0 or (every is not None and trainer.global_step - self.saved_step >= every)
        first_chance = batch_idx == 1 and trainer.max_steps != -1  # of the epoch, instead of its start
        # Up to here all ranks know the same; clocks and signals need a collective. Ask at two steps in a row, as a
        # validation may come before one of them
        if trainer.world_size > 1 and not (due or first_chance) and trainer.global_step % STEPS_BETWEEN_AGREEMENTS > 1:
            return
        due = due or self._has_passed(self.min_interval if first_chance else self.train_time_interval)
        action = self._agree(trainer, due)
        if action != CONTINUE and _can_resume_before(trainer, batch_idx):
            self._act_before(trainer, trainer.fit_loop.epoch_loop.batch_progress, action)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the run."""
        self._finished = True
        if trainer.global_step > self.saved_step:
            self._save(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what the command line needs for a resume."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        checkpoint["batches_done"] = done % trainer.num_training_batches
        checkpoint["world_size"] = trainer.world_size
        checkpoint["finished"] = self._finished
        if unwritten := [row for metrics in _metrics_loggers(trainer) for row in metrics.unwritten]:
            checkpoint["unwritten_metrics"] = unwritten

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check the number of processes, and let ModelCheckpoint find its files if the run's directory was moved.

        Raises:
            UserError: The checkpoint is from the middle of an epoch with another number of processes.
        """
        world_size = checkpoint.get("world_size", trainer.world_size)
        if checkpoint.get("batches_done") and world_size != trainer.world_size:
            raise UserError(
                f"the checkpoint is from the middle of an epoch of {world_size} processes, and there are "
                f"{trainer.world_size} now: give --trainer.devices {world_size}"
            )
        for key, state in checkpoint["callbacks"].items():
            if key.startswith("ModelCheckpoint") and (self.directory / Path(state["best_model_path"]).name).is_file():
                checkpoint["callbacks"][key] = _with_folder(state, state["dirpath"], str(self.directory))

    def _has_passed(self, seconds: float) -> bool:
        return time.monotonic() - self._saved_time >= seconds

    def _agree(self, trainer: Trainer, due: bool) -> int:
        """Return the greatest action that any rank asks for, as all must save and stop together (a collective)."""
        action = STOP + self._stop_requested if self._stop_requested else SAVE if due else CONTINUE
        if trainer.world_size > 1:
            requested = torch.tensor(action, device=trainer.strategy.root_device)
            action = int(trainer.strategy.reduce(requested, reduce_op="max"))
        return action

    def _act_before(self, trainer: Trainer, progress: Any, action: int) -> None:
        """Save as if Lightning had not yet counted the epoch or batch that is about to begin."""
        if action == CONTINUE:
            return
        for counts in (progress.current, progress.total):
            counts.ready -= 1
        if trainer.global_step > self.saved_step:
            self._save(trainer)
        if action > STOP:  # the batch will not run: leave it uncounted for what others save as the run ends
            self.stop_agreed = action - STOP
            return
        for counts in (progress.current, progress.total):
            counts.ready += 1

    def _save(self, trainer: Trainer) -> None:
        if trainer.checkpoint_callback is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return  # --trainer.enable_checkpointing false
        for logger in trainer.loggers:
            logger.save()
        rows, last = self.directory.with_name("metrics.csv"), self.directory / LAST
        if trainer.is_global_zero and rows.is_file():
            sync(rows)  # a resumed run does not write the rows from before its checkpoint again
        trainer.save_checkpoint(last, weights_only=False)  # without the argument Lightning logs a line
        self._note_save(trainer)
        for metrics in _metrics_loggers(trainer):
            metrics.check_written(f"in {last}, go on with: leyden fit --ckpt_path {self.directory.parent}")

    def _note_save(self, trainer: Trainer) -> None:
        self.saved_step, self._saved_time = trainer.global_step, time.monotonic()


def _metrics_loggers(trainer: Trainer) -> list[MetricsLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, MetricsLogger)]


def _can_resume_before(trainer: Trainer, batch_idx: int) -> bool:
    """Return whether Lightning can resume before this batch.

    It cannot before the first batch of an epoch, within an accumulation of gradients, or right after a validation.
    """
    done = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    validated = trainer.enable_validation and done % (trainer.val_check_batch or math.inf) == 0
    return batch_idx > 0 and batch_idx % trainer.accumulate_grad_batches == 0 and not validated


def _with_folder(state: Any, old: str, new: str) -> Any:
    """Replace a folder in all paths of a state."""
    if isinstance(state, dict):
        return {_with_folder(key, old, new): _with_folder(value, old, new) for key, value in state.items()}
    return state.replace(old, new, 1) if isinstance(state, str) else state
