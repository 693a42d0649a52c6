"""Checkpoints that a run goes on from bit for bit, and the signals and losses that end it."""

import math
import os
import shlex
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor

from leyden.data.samplers import ResumableSampler
from leyden.errors import RunError, UserError
from leyden.models.task import Task
from leyden.runs.directory import LAST, PREVIOUS, run_directory
from leyden.runs.metrics_logger import MetricsLogger

STEPS_BETWEEN_QUESTIONS = 16  # that ranks ask each other, of several that train together
NOTHING, SAVE, STOP = range(3)  # what a rank wishes before a batch; all of them do the greatest wish


class LastCheckpoint(Callback):
    """Keep `checkpoints/last.ckpt`, from which `leyden fit --ckpt_path last` goes on bit for bit.

    It is saved after the first step, between epochs, at an interval, when training ends, and on SIGTERM and SIGINT,
    which end the run with exit codes 143 and 130; the file before it stays as `previous.ckpt`. A checkpoint is always
    of a moment between two batches, after an optimizer step, when what was logged is on disk: only there does
    Lightning resume without losing or repeating anything. So a signal that comes during validation is heard after it.

    A job under SLURM that gets SIGUSR1 (`sbatch --signal=USR1@60`) saves and has itself queued again; started again,
    it goes on from there. A loss that is not finite ends the run before it reaches the weights.

    Args:
        every_n_train_steps: Save after every so many optimizer steps as well; None for never.
        train_time_interval: Save when so much time has passed since the last save; None for never.
    """

    def __init__(
        self, every_n_train_steps: int | None = None, train_time_interval: timedelta | None = timedelta(minutes=5)
    ) -> None:
        self.every_n_train_steps = every_n_train_steps
        self.train_time_interval = train_time_interval
        self.saved_step, self._next_time = 0, math.inf
        self.finished = False
        self.signal = 0
        self._handlers: dict[int, Any] = {}
        self._losses: dict[int, Tensor] = {}
        self._metric_states: dict[str, dict[str, list[Any]]] = {}  # by metric and state, of each rank

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the directory."""
        self.directory = run_directory(trainer) / "checkpoints"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to signals in the place of Lightning, which would end the run without saving it."""
        self._on_cpu = pl_module.device.type == "cpu"
        self._first_step = trainer.global_step
        self._saved(trainer)
        heard = [signal.SIGTERM, signal.SIGINT] + [signal.SIGUSR1] * ("SLURM_JOB_ID" in os.environ)
        self._handlers = {number: signal.signal(number, self._hear) for number in heard}
        for name, states in self._metric_states.items():
            # between epochs, and so with other metrics, there is nothing in them
            if metric := pl_module.metrics("train").get(name):  # type: ignore[operator]
                for state, values in states.items():
                    setattr(metric, state, move_data_to_device(values[trainer.global_rank], pl_module.device))

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.signal:  # the second one is in earnest
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
        print(f"{signal.Signals(number).name}: saving between two batches; once more to stop at once", file=sys.stderr)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save between two epochs."""
        # with max_steps, Lightning would resume from here with an epoch that has no batches
        if trainer.global_step > self.saved_step and trainer.max_steps == -1:
            self._save_before(trainer, trainer.fit_loop.epoch_progress, self._agree(trainer, SAVE))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Save between two batches if it is time to."""
        every = self.every_n_train_steps
        due = (
            self.saved_step == 0
            or (every is not None and trainer.global_step - self.saved_step >= every)
            or (batch_idx == 1 and trainer.max_steps != -1)
        )
        # so far all ranks know the same; to ask for the others' clocks and signals takes time, and a GPU waits for it.
        # Two steps in a row, as a validation may lie before one of them
        if trainer.world_size > 1 and not due and trainer.global_step % STEPS_BETWEEN_QUESTIONS > 1:
            return
        due = due or time.monotonic() >= self._next_time
        wish = self._agree(trainer, SAVE if due else NOTHING)
        if wish != NOTHING and _can_resume_before(trainer, batch_idx):
            self._save_before(trainer, trainer.fit_loop.epoch_loop.batch_progress, wish)

    def _agree(self, trainer: Trainer, wish: int) -> int:
        """Return the greatest wish of all ranks, which must save and stop together."""
        wish = STOP if self.signal else wish
        if trainer.world_size > 1:
            wishes = torch.tensor(wish, device=trainer.strategy.root_device)
            wish = int(trainer.strategy.reduce(wishes, reduce_op="max"))
        return wish

    def _save_before(self, trainer: Trainer, progress: Any, wish: int) -> None:
        """Save as if Lightning had not yet counted the epoch or batch that is about to begin."""
        for counts in (progress.current, progress.total):
            counts.ready -= 1
        if trainer.global_step > self.saved_step:
            self._save(trainer)
        if wish == STOP:
            self._stop(trainer)
        for counts in (progress.current, progress.total):
            counts.ready += 1

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Look at the loss before it reaches the weights; on a GPU, which must not wait for that, some steps later."""
        if self._on_cpu and math.isfinite(loss.item()):
            return
        self._losses[trainer.fit_loop.batch_idx] = loss.detach()
        if self._on_cpu or len(self._losses) >= trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self._check_losses(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the losses since the last look."""
        self._check_losses(trainer)
        if trainer.global_step > self._first_step:
            # else Lightning leaves out plateau schedules, as if no batch had been trained since the resume; the public
            # setter would begin the validation anew where max_steps is set
            trainer.fit_loop._restarting = False

    def _check_losses(self, trainer: Trainer) -> None:
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
        kept = self.directory / LAST
        good = f"the last good checkpoint is {kept}" if kept.exists() else "there is no checkpoint yet"
        raise RunError(
            f"the training loss is {loss} at step {trainer.global_step} ({where}); {good}; "
            "try a smaller learning rate, or --trainer.gradient_clip_val 1"
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of the run."""
        self.finished = True
        if trainer.global_step > self.saved_step:
            self._save(trainer)
        self._unhook()
        if self.signal:
            self._stop(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say how to go on, and kill the other ranks: they may be blocked in a collective, or stopped."""
        self._unhook()
        directory = getattr(self, "directory", None)  # not found yet where the data cannot be loaded
        if directory and (directory / LAST).exists() and not isinstance(exception, (UserError, RunError)):
            exception.add_note(f"go on with: leyden fit --ckpt_path {directory.parent}")
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher) and not isinstance(exception, SystemExit):
            launcher.kill(signal.SIGKILL)

    def _unhook(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _save(self, trainer: Trainer) -> None:
        self._check_losses(trainer)
        if trainer.checkpoint_callback is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return  # --trainer.enable_checkpointing false
        for logger in trainer.loggers:
            logger.save()
        last = self.directory / LAST
        if trainer.is_global_zero and last.exists():
            last.replace(self.directory / PREVIOUS)
        trainer.save_checkpoint(last, weights_only=False)  # the whole run; unsaid, Lightning logs a line
        self._saved(trainer)
        for metrics in _metrics_loggers(trainer):
            metrics.check_written(f"in {last}, go on with: leyden fit --ckpt_path {self.directory.parent}")

    def _saved(self, trainer: Trainer) -> None:
        self.saved_step = trainer.global_step
        interval = self.train_time_interval
        self._next_time = math.inf if interval is None else time.monotonic() + interval.total_seconds()

    def _stop(self, trainer: Trainer) -> None:
        number = self.signal or signal.SIGTERM  # another rank heard it
        if trainer.is_global_zero:
            saved = (self.directory / LAST).exists()  # not with --trainer.enable_checkpointing false
            run = shlex.quote(str(self.directory.parent))
            fix = f"saved; go on with: leyden fit --ckpt_path {run}" if saved else "nothing is saved"
            print(f"stopped at step {trainer.global_step}, {fix}", file=sys.stderr)
            if number == signal.SIGUSR1:
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
        # at a child's exit code other than 0 Lightning kills the process that started it
        child = trainer.global_rank > 0 and isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher)
        raise SystemExit(0 if child else 128 + number)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what a resume must know, and the training metrics of the epoch so far, of each rank."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        checkpoint["batches_done"] = done % trainer.num_training_batches
        checkpoint["world_size"] = trainer.world_size
        checkpoint["finished"] = self.finished
        if unwritten := [row for metrics in _metrics_loggers(trainer) for row in metrics.unwritten]:
            checkpoint["unwritten_metrics"] = unwritten
        if isinstance(pl_module, Task):
            pl_module.flush_metrics("train")
            checkpoint["train_metrics"] = {
                name: {state: _of_all_ranks(trainer, value) for state, value in metric.metric_state.items()}
                for name, metric in pl_module.metrics("train").items()
            }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the training metrics of the epoch so far, and let ModelCheckpoint find its files if the run was moved.

        Raises:
            UserError: The run stopped in the middle of an epoch that is shared by another number of processes.
        """
        world_size = checkpoint.get("world_size", trainer.world_size)
        if checkpoint.get("batches_done") and world_size != trainer.world_size:
            raise UserError(
                f"the checkpoint is from the middle of an epoch of {world_size} processes, and there are "
                f"{trainer.world_size} now: give --trainer.devices {world_size}"
            )
        self._metric_states = checkpoint.get("train_metrics", {})
        for key, state in checkpoint["callbacks"].items():
            if key.startswith("ModelCheckpoint") and (self.directory / Path(state["best_model_path"]).name).is_file():
                checkpoint["callbacks"][key] = _moved(state, state["dirpath"], str(self.directory))


def _metrics_loggers(trainer: Trainer) -> list[MetricsLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, MetricsLogger)]


def _can_resume_before(trainer: Trainer, batch_idx: int) -> bool:
    """Say whether Lightning can resume before this batch: no epoch's first, in no accumulation, after no validation."""
    done = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    validated = trainer.enable_validation and done % (trainer.val_check_batch or math.inf) == 0
    return batch_idx > 0 and batch_idx % trainer.accumulate_grad_batches == 0 and not validated


def _moved(state: Any, old: str, new: str) -> Any:
    """Change a folder in all the paths of a state."""
    if isinstance(state, dict):
        return {_moved(key, old, new): _moved(value, old, new) for key, value in state.items()}
    return state.replace(old, new, 1) if isinstance(state, str) else state


def _of_all_ranks(trainer: Trainer, value: Tensor | list[Tensor]) -> list[Any]:
    """Return the value of each rank: a tensor, or a list of them, which ranks have of different lengths."""
    values = [move_data_to_device(value, "cpu")] * trainer.world_size
    if trainer.world_size > 1:
        torch.distributed.all_gather_object(values, values[0])
    return values
