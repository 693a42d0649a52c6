"""The Trainer of a run, with its loggers, callbacks and plugins in order."""

from collections.abc import Callable
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ModelSummary, ProgressBar
from lightning.pytorch.loggers import Logger

from leyden.callbacks.epoch_lines import EpochLines
from leyden.callbacks.finders import FINDERS, KeepFound
from leyden.callbacks.finetuning import ResumedFinetuning
from leyden.callbacks.fused_clipping import FusedClipping
from leyden.callbacks.global_batch import GlobalBatch, ResumedAccumulation
from leyden.callbacks.monitored_scores import MonitoredScores
from leyden.callbacks.progress_bar import RunProgressBar
from leyden.callbacks.sync_batchnorm import SyncBatchNorm
from leyden.checkpoints.epoch_so_far import EpochSoFar
from leyden.checkpoints.finite_loss import FiniteLoss
from leyden.checkpoints.graceful_shutdown import GracefulShutdown
from leyden.checkpoints.io import SafeCheckpointIO
from leyden.checkpoints.last_checkpoint import LastCheckpoint
from leyden.checkpoints.resumed_optimizer import ChangedOptimizer, StateMemoryFormat
from leyden.checkpoints.resumed_schedule import Choice, ResumedPlateau, ResumedSchedule
from leyden.cli.check_hardware import check_hardware
from leyden.cli.check_launch import check_processes, check_started
from leyden.cli.compatibility import check_options
from leyden.cli.run import Run, as_list
from leyden.errors import UserError
from leyden.runs.launches import renew_store
from leyden.runs.run_config import RunConfig
from leyden.runs.wandb import RunWandbLogger

# the Trainer refuses or ignores a flag that switches off what is in its list of callbacks
SWITCHES: dict[str, tuple[type[Callback], ...]] = {
    "enable_checkpointing": (ModelCheckpoint,),
    "enable_model_summary": (ModelSummary,),
    "enable_progress_bar": (RunProgressBar, EpochLines),
}


def loggers_of(run: Run, configured: Any) -> Any:
    """Return the loggers, without W&B where it is disabled.

    Args:
        run: The run.
        configured: The argument `logger` of the Trainer: a logger, a list of them, null, true or false.
    """
    loggers = [logger for logger in as_list(configured) if isinstance(logger, Logger)]
    for logger in loggers:
        if isinstance(logger, RunWandbLogger):
            logger.config = run.record
    if loggers and run.is_untracked:
        return [logger for logger in loggers if not isinstance(logger, RunWandbLogger)]
    return configured


def callbacks_of(run: Run, options: Namespace, last: LastCheckpoint, schedule: Choice | None) -> list[Callback]:
    """Return the callbacks in the order in which the Trainer calls them.

    Args:
        run: The run.
        options: The configured arguments of the Trainer.
        last: What saves last.ckpt.
        schedule: What follows the end of the learning-rate schedule of a resumed run.
    """
    off = tuple(kind for flag, kinds in SWITCHES.items() if options[flag] is False for kind in kinds)
    if run.is_resumed:
        off += FINDERS  # what they found is in the configuration of the checkpoint
    configured = [callback for callback in as_list(options["callbacks"]) if callback is not None]
    if sum(isinstance(callback, ProgressBar) for callback in configured) > 1:
        off += (RunProgressBar,)  # the user has another one
    configured = [callback for callback in configured if not isinstance(callback, off)]
    run_config = RunConfig(run.record, run.command)
    added: list[Callback] = [run_config, FiniteLoss(), EpochSoFar(), FusedClipping()]
    if any(isinstance(callback, FINDERS) for callback in configured):
        added.append(KeepFound(run_config))
    if run.is_resumed:
        added += [ChangedOptimizer(run.changes), StateMemoryFormat(), ResumedPlateau()]
        added += [ResumedFinetuning(), ResumedAccumulation()]
    added.append(GlobalBatch())  # after what sets the number of accumulated batches
    if schedule:
        added.append(ResumedSchedule(schedule))
    # a checkpoint between epochs is saved before any callback acts on the new epoch;
    # the score of ModelCheckpoint is chosen before ModelCheckpoint reads it
    return [last, GracefulShutdown(last), MonitoredScores(run_config), *configured, *added]


def make_trainer(make: Callable[..., Trainer], run: Run, options: Namespace) -> Trainer:
    """Construct the Trainer with the loggers and plugins of a run, and check the hardware that it found.

    Args:
        make: Takes arguments that replace the configured ones, and returns the Trainer.
        run: The run.
        options: The configured arguments of the Trainer.

    Raises:
        UserError: An argument is refused.
    """
    plugins = as_list(options.plugins or [])
    check_options(options, plugins)
    check_started()
    plugins = [*plugins, SafeCheckpointIO(), *([SyncBatchNorm()] if options.sync_batchnorm else [])]
    renew_store()
    try:
        trainer = make(plugins=plugins, logger=loggers_of(run, options.logger), default_root_dir=str(run.directory))
    except (ValueError, TypeError, MisconfigurationException, ModuleNotFoundError) as error:
        fix = " Leave --trainer.accelerator out to use what is available" if "backend found" in str(error) else ""
        raise UserError(f"trainer: {error}{fix}") from error
    except RuntimeError as error:
        if "more than one stateful callback" not in str(error):
            raise
        raise UserError(f"two callbacks do the same, as with two ModelCheckpoints of one score: {error}") from error
    check_processes(trainer)
    check_hardware(trainer, options.precision)
    return trainer
