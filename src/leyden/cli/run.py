"""The run of one command: its directory, the record of its configuration, and the checkpoint that it resumes from."""

import inspect
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger, MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only

from leyden.callbacks.monitored_scores import mode_of
from leyden.checkpoints.resume import check_resumable, differences, is_finished, is_untested
from leyden.checkpoints.write_paths import check_write_paths
from leyden.cli.arguments import Arguments
from leyden.cli.console import say
from leyden.cli.messages import import_class
from leyden.errors import UserError
from leyden.runs.directory import RUNS, check_name, lock_run, make_run_directory
from leyden.runs.launches import record_end
from leyden.runs.metrics_logger import logged_steps, rewind_metrics
from leyden.runs.plain_config import plain_config
from leyden.runs.run_config import MLFLOW_RUN_ID
from leyden.runs.wandb import RunWandbLogger, WandbOptions


@dataclass
class Run:
    """The run of one command.

    Args:
        subcommand: `fit`, `validate`, `test` or `predict`.
        command: The subcommand and what follows it on the command line.
        record: The resolved configuration as plain data, without the run's directory.
        checkpoint: The content of the checkpoint that it resumes from or evaluates; empty without one.
        changes: {option: (value in the checkpoint, new value)} of a resumed run.
        only_test: Whether training is finished, and only the test that follows it was interrupted.
        wandb: How the run appears in Weights & Biases.
        directory: The run's directory; rank 0 broadcasts it to the other ranks.
    """

    subcommand: str
    command: list[str]
    record: dict[str, Any]
    checkpoint: dict[str, Any]
    changes: dict[str, tuple[Any, Any]]
    only_test: bool
    wandb: WandbOptions
    directory: Path

    @property
    def is_resumed(self) -> bool:
        """Whether there is a checkpoint."""
        return bool(self.checkpoint)

    @property
    def is_untracked(self) -> bool:
        """Whether W&B is disabled for this run."""
        return (self.wandb.mode or os.environ.get("WANDB_MODE")) == "disabled"

    def fill_in(self, class_type: type, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a logger or a checkpoint callback, with the run's directory where none is given.

        Raises:
            UserError: A logger of this project is given another directory.
        """
        parameters = inspect.signature(class_type).parameters
        if issubclass(class_type, Logger) and "save_dir" in parameters:
            if _is_unset(class_type, kwargs.get("save_dir")):
                kwargs["save_dir"] = str(self.directory)
            elif class_type.__module__.startswith("leyden."):
                raise UserError(f"{class_type.__name__} writes into the run's directory: leave its save_dir out")
        if issubclass(class_type, RunWandbLogger):
            kwargs["options"] = self.wandb
        if issubclass(class_type, MLFlowLogger) and (self.directory / MLFLOW_RUN_ID).is_file():
            kwargs["run_id"] = (self.directory / MLFLOW_RUN_ID).read_text(encoding="utf-8")
        if issubclass(class_type, ModelCheckpoint) and "dirpath" in parameters and kwargs.get("dirpath") is None:
            kwargs["dirpath"] = str(self.directory / "checkpoints")
        return kwargs


def prepare_run(args: Arguments, config: Namespace, parser: ArgumentParser) -> Run:
    """Check what a command asks for against the checkpoint, then make and lock the run's directory.

    Args:
        args: The arguments.
        config: The parsed configuration of the subcommand; its name and its monitored score are filled in.
        parser: The parser of the subcommand.

    Raises:
        UserError: The name, the score or the checkpoint does not fit, or another process trains in the directory.
        SystemExit: The command was started again after it had finished.
    """
    config.name = config.name or args.default_name or config.model.class_path.rpartition(".")[2]
    check_name(config.name)
    if config.monitor or config.mode:
        _set_monitor(config)
    for logger in _classes(config.trainer.logger):
        if "save_dir" in logger.init_args and _is_unset(import_class(logger.class_path), logger.init_args.save_dir):
            logger.init_args.save_dir = ""  # also in the record: the run's directory, wherever it is moved
    record = plain_config(parser, config)
    if config.lr_scheduler == "restart":  # only this resume restarts the schedule
        record["lr_scheduler"] = None
    wandb = WandbOptions(**vars(config.wandb))
    own_run = args.resumed_run if config.name == args.checkpoint.get("config", {}).get("name") else None
    run = Run(
        subcommand=args.subcommand,
        command=args.command,
        record=record,
        checkpoint=args.checkpoint,
        changes={},
        only_test=False,
        wandb=replace(wandb, job_type=wandb.job_type or args.subcommand),
        directory=own_run or Path(config.trainer.default_root_dir or RUNS).absolute() / config.name,
    )
    if run.is_resumed and run.subcommand == "fit":
        run.changes = differences(run.checkpoint.get("config", record), record)
        for option, (old, new) in run.changes.items():
            say(f"      {option}: {old} -> {new}")
        if own_run and config.test_after_fit and config.trainer.limit_test_batches != 0:
            run.only_test = is_untested(run.checkpoint, run.changes, record, own_run / "metrics.csv")
        _check_resume(run, args)
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        if not own_run:
            run.directory = make_run_directory(run.directory, "" if run.subcommand == "fit" else f"_{run.subcommand}")
        if run.subcommand == "fit":
            lock_run(run.directory)
        if own_run:
            unwritten = run.checkpoint.get("unwritten_metrics", ())
            rewind_metrics(run.directory / "metrics.csv", logged_steps(run.checkpoint), unwritten)
    return run


def _check_resume(run: Run, args: Arguments) -> None:
    """Refuse to resume what cannot be resumed as requested."""
    if args.is_restart and is_finished(run.checkpoint, run.changes, run.record) and not run.only_test:
        say("      finished before it was started again")
        if args.resumed_run is not None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            record_end(args.resumed_run)  # a kill may have come before
        raise SystemExit(0)
    check_resumable(run.checkpoint, run.changes, run.record, run.only_test)
    if run.only_test:
        say("      its training is finished, its test is not: testing it")
    if args.foreign_run:
        config = run.checkpoint.get("config", {})
        theirs = dict(config.get("trainer", {}))
        home = Path(theirs.get("default_root_dir") or RUNS) / config.get("name", "")
        if args.foreign_run.parent.resolve() == home.resolve():
            theirs.pop("default_root_dir", None)  # the user named that folder by the path of the checkpoint
        check_write_paths(run.record["trainer"], theirs, args.flags, args.configs)


def as_list(value: Any) -> list[Any]:
    """Return a list unchanged, and any other value as a list of one."""
    return value if isinstance(value, list) else [value]


def _classes(value: Any) -> list[Namespace]:
    """Return the classes in an option that may be a class, a list of them, null, true or false."""
    return [item for item in as_list(value) if isinstance(item, Namespace)]


def _is_unset(logger: type, save_dir: str | None) -> bool:
    """Return whether a logger is given no directory, or only the default of its class."""
    return save_dir in ("", None, inspect.signature(logger).parameters["save_dir"].default)


def _set_monitor(config: Namespace) -> None:
    """Set the score of the first ModelCheckpoint, which saves best.ckpt, to `--monitor` and `--mode`."""
    found = [c.init_args for c in _classes(config.trainer.callbacks) if c.class_path.endswith(".ModelCheckpoint")]
    if not found:
        raise UserError("--monitor chooses the score of best.ckpt, but there is no ModelCheckpoint among the callbacks")
    found[0].monitor = config.monitor or found[0].monitor
    found[0].mode = config.mode or mode_of(str(found[0].monitor))
    if found[0].mode is None:
        raise UserError(f"--monitor {config.monitor}: say which is better, with --mode min or --mode max")
