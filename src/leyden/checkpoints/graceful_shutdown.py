"""End a run on a signal with its work saved, and after an exception with no process left."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from leyden.checkpoints.last_checkpoint import LastCheckpoint
from leyden.errors import RunError, UserError
from leyden.runs.directory import LAST, run_directory


class GracefulShutdown(Callback):
    """On SIGTERM and SIGINT save and end the run, with exit codes 143 and 130; a second signal stops at once.

    A job under SLURM that gets SIGUSR1 (`sbatch --signal=USR1@60`) saves and requeues itself; started again, it resumes
    from there. An exception says how to resume, and kills the other ranks.

    Args:
        last_checkpoint: What saves. It must come before this callback in the Trainer's list.
    """

    def __init__(self, last_checkpoint: LastCheckpoint) -> None:
        self.last_checkpoint = last_checkpoint
        self.signal = 0  # the one that this rank has received
        self._run: Path | None = None
        self._handlers: dict[int, Any] = {}  # those to restore

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run's directory."""
        self._run = run_directory(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's signal handlers, which would end the run without saving it."""
        numbers = [signal.SIGTERM, signal.SIGINT] + [signal.SIGUSR1] * ("SLURM_JOB_ID" in os.environ)
        self._handlers = {number: signal.signal(number, self._on_signal) for number in numbers}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal:  # a second signal stops at once
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
        self.last_checkpoint.request_stop()
        print(f"{signal.Signals(number).name}: saving between two batches; once more to stop at once", file=sys.stderr)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if all ranks have agreed to."""
        if self.last_checkpoint.stop_agreed:
            self._stop(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop if all ranks have agreed to."""
        if self.last_checkpoint.stop_agreed:
            self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the signal handlers; stop if a signal came too late to be agreed on."""
        self._restore_handlers()
        if self.signal:
            self._stop(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Say how to resume, and kill the other ranks: they may be blocked in a collective, or stopped."""
        self._restore_handlers()
        # there is no directory yet if the data cannot be loaded
        if self._run and _has_saved(self._run) and not isinstance(exception, (UserError, RunError)):
            exception.add_note(f"go on with: leyden fit --ckpt_path {self._run}")
        launcher = trainer.strategy.launcher
        if launcher is not None and not isinstance(exception, SystemExit):
            launcher.kill(signal.SIGKILL)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _stop(self, trainer: Trainer) -> None:
        number = self.signal or signal.SIGTERM  # only another rank has received one
        if trainer.is_global_zero:
            run = self.last_checkpoint.directory.parent
            resume = f"saved; go on with: leyden fit --ckpt_path {shlex.quote(str(run))}"
            # --trainer.enable_checkpointing false saves nothing
            print(
                f"stopped at step {trainer.global_step}, {resume if _has_saved(run) else 'nothing is saved'}",
                file=sys.stderr,
            )
            if number == signal.SIGUSR1:
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=True)
        # Lightning's launcher kills the main process when another rank ends with a code other than 0
        raise SystemExit(128 + number if trainer.is_global_zero else 0)


def _has_saved(run: Path) -> bool:
    return (run / "checkpoints" / LAST).exists()
