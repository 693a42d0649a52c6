"""End a run on a signal with its work saved, and after an exception with no process left."""

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
from leyden.runs.launches import slurm_job


class GracefulShutdown(Callback):
    """On SIGTERM, SIGINT and SIGUSR1 save and end the run, with exit codes 143, 130 and 138; a second one kills it.

    The signal may go to any rank: all of them end. A job under SLURM that gets SIGUSR1 (`sbatch --signal=USR1@60`)
    requeues itself, in a job array only its own task; started again, it resumes from there. An exception says how to
    resume, and kills the other ranks.

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
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        self._handlers = {number: signal.signal(number, self._on_signal) for number in numbers}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.last_checkpoint.stop_agreed:  # this rank is ending; torchrun signals it as soon as another has ended
            return
        if self.signal:  # a second signal stops at once
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
        self.last_checkpoint.request_stop(number)
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
        number = self.last_checkpoint.stop_agreed or self.signal
        if trainer.is_global_zero:
            run = self.last_checkpoint.directory.parent
            resume = f"saved; go on with: leyden fit --ckpt_path {shlex.quote(str(run))}"
            # --trainer.enable_checkpointing false saves nothing
            print(
                f"stopped at step {trainer.global_step}, {resume if _has_saved(run) else 'nothing is saved'}",
                file=sys.stderr,
            )
            if number == signal.SIGUSR1 and (job := slurm_job()):
                _requeue(job)
        if self.last_checkpoint.stop_agreed:  # as srun and torchrun kill the other ranks when one has ended
            trainer.strategy.barrier()
        # Lightning's launcher kills the main process when a rank that it has started ends with a code other than 0;
        # torchrun would wait for a node whose ranks end with 0 while those of another node end with a signal's code
        is_child = trainer.strategy.launcher is not None and trainer.local_rank > 0
        raise SystemExit(0 if is_child else 128 + number)


def _requeue(job: str) -> None:
    command = ["scontrol", "requeue", job]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", "") or str(error)).strip()
        raise RunError(f"not queued again: `{shlex.join(command)}` failed ({reason})") from error


def _has_saved(run: Path) -> bool:
    return (run / "checkpoints" / LAST).exists()
