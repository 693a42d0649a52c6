"""The command line: LightningCLI, with this project's conventions."""

import argparse
import importlib
import inspect
import json
import os
import pkgutil
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import jsonargparse
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.optim.lr_scheduler import LRScheduler

import leyden.callbacks
import leyden.checkpoints
import leyden.data
import leyden.models
import leyden.runs
from leyden import PROJECT
from leyden.callbacks.finders import FINDERS, KeepFound
from leyden.callbacks.finetuning import ResumedFinetuning
from leyden.callbacks.fused_clipping import FusedClipping
from leyden.callbacks.global_batch import GlobalBatch, ResumedAccumulation
from leyden.callbacks.monitored_scores import MonitoredScores, mode_of
from leyden.callbacks.overhead import drop_idle_hooks
from leyden.callbacks.sync_batchnorm import SyncBatchNorm, check_batch_norms
from leyden.checkpoints.epoch_so_far import EpochSoFar
from leyden.checkpoints.find import find_checkpoint
from leyden.checkpoints.finite_loss import FiniteLoss
from leyden.checkpoints.graceful_shutdown import GracefulShutdown
from leyden.checkpoints.io import SafeCheckpointIO, read_checkpoint
from leyden.checkpoints.last_checkpoint import LastCheckpoint
from leyden.checkpoints.resume import (
    check_resumable,
    check_weights_fit,
    differences,
    is_finished,
    is_untested,
    limits_to_raise,
)
from leyden.checkpoints.resumed_optimizer import ChangedOptimizer, StateMemoryFormat
from leyden.checkpoints.resumed_schedule import Choice, ResumedPlateau, ResumedSchedule, check_schedule_end
from leyden.checkpoints.write_paths import check_write_paths
from leyden.cli.class_list import class_list
from leyden.cli.compatibility import check_options, check_parts
from leyden.cli.messages import arguments, explain
from leyden.cli.parts import Constructor
from leyden.cli.preflight import (
    announce_nodes,
    check_evaluation,
    check_fit,
    check_hardware,
    check_model_fits_data,
    missing_for,
)
from leyden.data.resumable import make_resumable, seed_setup
from leyden.data.samplers import check_seed
from leyden.errors import UserError
from leyden.models.lr_schedules import LENGTHS
from leyden.runs.directory import (
    LAST,
    RUNS,
    check_name,
    lock_run,
    make_run_directory,
)
from leyden.runs.launches import renew_store, restarted_run
from leyden.runs.metrics import best_scores
from leyden.runs.metrics_logger import logged_steps, rewind_metrics
from leyden.runs.plain_config import plain_config
from leyden.runs.run_config import RunConfig
from leyden.runs.wandb import MLFLOW_RUN_ID, RunWandbLogger, WandbOptions
from leyden.security import check_file, check_loading

for package in (
    leyden.callbacks,
    leyden.checkpoints,
    leyden.data,
    leyden.models,
    leyden.runs,
):  # once imported, a class goes by its short name: `class_path: ConvNet`
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)

SUBCOMMANDS = ("fit", "validate", "test", "predict")
LINKS = ("input_shape", "num_classes", "out_features")  # what a model takes from its data
SWITCHES = {
    "enable_checkpointing": ("ModelCheckpoint",),
    "enable_model_summary": ("ModelSummary", "LayerSummary"),
    "enable_progress_bar": ("RunProgressBar", "EpochLines"),
}


class Parser(LightningArgumentParser):
    """Lightning's parser, for functions that return a network as well, and schedules whose length may be left out."""

    def add_class_arguments(
        self, class_type: type, *args: Any, skip: set[str | int] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add a class's arguments; a schedule's length may be null for the run's, or a share of that."""
        length = LENGTHS.get(class_type.__name__) if issubclass(class_type, LRScheduler) else None
        skip = {*(skip or ()), *([length] if length else [])}
        added: list[str] = super().add_class_arguments(class_type, *args, skip=skip, **kwargs)
        if length is None:
            return added
        if length == "milestones":
            self.add_argument(f"--{length}", type=list[int | float], required=True, help="0.5 is half of the run.")
        else:
            self.add_argument(f"--{length}", type=int | float | None, help="Null: the run's; 0.5: half of the run.")
        return [*added, length]

    def add_function_arguments(self, *args: Any, linked_targets: Any = None, **kwargs: Any) -> list[str]:
        """Add a function's arguments, without those of a link, which jsonargparse 4.53 passes but does not take."""
        return super().add_function_arguments(*args, **kwargs)


class CLI(LightningCLI):
    """`leyden fit`, `validate`, `test` and `predict`.

    Args:
        args: The words after `leyden`.
    """

    def __init__(self, args: list[str]) -> None:
        strict = {"exit_on_error": False, "allow_abbrev": False}
        defaults = {"default_config_files": [str(PROJECT / "configs" / "defaults.yaml")]}
        super().__init__(
            LightningModule,
            None,  # any LightningDataModule; a module may have loaders of its own
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,  # RunConfig does it
            parser_class=Parser,
            parser_kwargs={**strict, **{name: {**strict, **defaults} for name in SUBCOMMANDS}},
            args=args,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "CLI":
        """Return this object itself, so that a copy of the model is no copy of the trainer and the data.

        Weight averaging copies the model. An optimizer that comes from YAML refers to jsonargparse's instantiator, that
        to Lightning's, and that to this object, whose trainer holds locks as soon as it has started other processes.
        """
        return self

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add this project's own options, and take the model's sizes from the data."""
        parser.add_argument("--name", type=str | None, help="Experiment's name; default: the first --config's.")
        parser.add_argument("--monitor", type=str | None, help="Score that best.ckpt goes by; default: the val/loss.")
        parser.add_argument("--mode", type=Literal["min", "max"] | None, help="What is better; default: by its name.")
        parser.add_argument("--lr_scheduler", type=Choice | None, help="What follows its end in an extended run.")
        parser.add_argument("--test_after_fit", type=bool, default=True, help="Test the best checkpoint after fit.")
        parser.add_class_arguments(WandbOptions, "wandb")
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        for name in LINKS:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse in the order defaults, checkpoint, each --config, flags: the later wins.

        Raises:
            UserError: The arguments do not fit together, or there is no checkpoint where one is needed.
        """
        subcommand, *rest = cast("list[str]", args)
        if listed := class_list(rest):
            print(listed)
            raise SystemExit(0)
        if subcommand in ("validate", "test"):
            self._parser(subcommand).set_defaults(verbose=False)  # Lightning's table of scores: _report has a line
        try:
            self.config = parser.parse_args([subcommand, *self._in_order(subcommand, rest)])
        except argparse.ArgumentError as error:
            options = [*self._parser(subcommand).get_defaults().keys()]
            # the model may be the one that is not understood, so these are of any
            options += [f"model.{name}" for name in arguments("leyden.models.tasks.Classifier")]
            options += ["model.optimizer.lr"]
            options += [f"data.{name}" for name in arguments("leyden.data.datamodules.ArrayDataModule")]
            raise UserError(explain(error, options, self.configs)) from error
        check_loading(self.config[subcommand], has_checkpoint=bool(self.resumed))
        check_seed(self.config[subcommand].seed_everything)

    def _in_order(self, subcommand: str, words: list[str]) -> list[str]:
        """Put the checkpoint's configuration first, then each --config, then the flags."""
        early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        early.add_argument("-c", "--config", action="append", default=[])
        early.add_argument("--ckpt_path")
        early.add_argument("--name")
        early.add_argument("--trainer.default_root_dir", dest="root")
        given, flags = early.parse_known_args(words)
        for config in given.config:
            check_file(config)

        self.configs = given.config
        experiments = [Path(config).stem for config in given.config if Path(config).parent.name != "with"]
        self.default_name = next(iter(experiments), None)
        self.resumed: dict[str, Any] = {}
        self.own_run: Path | None = None  # the directory in which a resumed run goes on
        self.command = [subcommand, *words]
        self.own_flags, self.own_configs = list(flags), given.config
        first = []
        root = Path(given.root or RUNS)
        self.restarted = restarted_run(root, self.command) if subcommand == "fit" else None
        if self.restarted:  # its config.yaml is what this command came to, also if that went on from another checkpoint
            given.ckpt_path, given.config, flags = str(self.restarted), [str(self.restarted / "config.yaml")], []
        if given.ckpt_path:
            default = "last" if subcommand == "fit" else "best"
            path = find_checkpoint(given.ckpt_path, root, given.name or self.default_name, default)
            self.resumed = read_checkpoint(path)
            kind = ", averaged weights" if "averaging_state" in self.resumed and subcommand != "fit" else ""
            _say(f"from  {_short(str(path))}, step {self.resumed.get('global_step')}{kind}")
            # from any other file of a run, a new one branches off
            run = path.absolute().parents[1]
            in_run = path.parent.name == "checkpoints" and (run / "config.yaml").is_file()
            if subcommand == "fit" and in_run and (not Path(given.ckpt_path).is_file() or path.name == LAST):
                self.own_run = run
            self.from_elsewhere = None if root.resolve() in path.resolve().parents else run
            first = [] if self.restarted else [f"--config={json.dumps(self._remembered(subcommand))}"]
            flags.append(f"--ckpt_path={path}")
        elif subcommand != "fit" and not any("help" in flag or flag == "-h" for flag in flags):
            raise UserError(f"`leyden {subcommand}` needs --ckpt_path: a file, a run directory, `best` or `last`")
        flags += [f"--name={given.name}"] if given.name else []
        flags += [f"--trainer.default_root_dir={given.root}"] if given.root else []
        return [*first, *(f"--config={config}" for config in given.config), *flags]

    def _remembered(self, subcommand: str) -> dict[str, Any]:
        """Return the checkpoint's own configuration; to evaluate, the part of it that made the scores."""
        config: dict[str, Any] = self.resumed.get("config", {})
        if subcommand == "fit" or not config:
            return config
        scores = ("name", "seed_everything", "model", "data")
        return {key: config[key] for key in scores} | {"trainer": {"precision": config["trainer"]["precision"]}}

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration alone: here Lightning lets the checkpoint's hyper-parameters beat the flags."""

    def before_instantiate_classes(self) -> None:
        """Choose the run's directory, keeping the configuration as it was before that went into it."""
        config = self.config[self.subcommand]
        config.name = config.name or self.default_name or config.model.class_path.rpartition(".")[2]
        check_name(config.name)
        if config.monitor or config.mode:
            _set_monitor(config)
        loggers = _listed(config.trainer.logger)
        unplaced = [logger for logger in loggers if _is_unplaced(logger)]
        for logger in unplaced:
            logger.init_args.save_dir = ""  # in the record; the run's directory is filled in below
        self.record = plain_config(self._parser(self.subcommand), config)
        if config.lr_scheduler == "restart":  # it is done once
            self.record["lr_scheduler"] = None

        own_run = self.own_run if config.name == self.resumed.get("config", {}).get("name") else None
        self.changes, self.test_is_left = {}, False
        if self.resumed and self.subcommand == "fit":
            self.changes = differences(self.resumed.get("config", self.record), self.record)
            for option, (old, new) in self.changes.items():
                _say(f"      {option}: {old} -> {new}")
            if own_run and config.test_after_fit and config.trainer.limit_test_batches != 0:
                self.test_is_left = is_untested(self.resumed, self.changes, self.record, own_run / "metrics.csv")
            if self.restarted and is_finished(self.resumed, self.changes, self.record) and not self.test_is_left:
                _say("      finished before it was started again")
                raise SystemExit(0)
            check_resumable(self.resumed, self.changes, self.record, self.test_is_left)
            if self.test_is_left:
                _say("      its training is finished, its test is not: testing it")
            if self.from_elsewhere:
                theirs = dict(self.resumed.get("config", {}).get("trainer", {}))
                home = Path(theirs.get("default_root_dir") or RUNS) / self.resumed.get("config", {}).get("name", "")
                if self.from_elsewhere.parent.resolve() == home.resolve():
                    theirs.pop("default_root_dir", None)  # the user has named that folder by the checkpoint's path
                check_write_paths(self.record["trainer"], theirs, self.own_flags, self.own_configs)

        directory = own_run or Path(config.trainer.default_root_dir or RUNS).absolute() / config.name
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # the other ranks are told by this one
            if not own_run:
                directory = make_run_directory(directory, "" if self.subcommand == "fit" else f"_{self.subcommand}")
            if self.subcommand == "fit":
                lock_run(directory)
            if own_run:
                unwritten = self.resumed.get("unwritten_metrics", ())
                rewind_metrics(directory / "metrics.csv", logged_steps(self.resumed), unwritten)
        config.trainer.default_root_dir = str(directory)
        for logger in unplaced:
            logger.init_args.save_dir = str(directory)
        for logger in loggers:
            if logger.class_path.endswith(".MLFlowLogger") and (directory / MLFLOW_RUN_ID).is_file():
                logger.init_args.run_id = (directory / MLFLOW_RUN_ID).read_text(encoding="utf-8")
            if logger.class_path.endswith(".RunWandbLogger"):
                config.wandb.job_type = config.wandb.job_type or self.subcommand
                logger.init_args.options = config.wandb
        if loggers and (config.wandb.mode or os.environ.get("WANDB_MODE")) == "disabled":
            config.trainer.logger = [logger for logger in loggers if not logger.class_path.endswith(".RunWandbLogger")]
        # with a callback in the list, Lightning would ignore or refuse the flag that switches it off
        off = {name for flag, names in SWITCHES.items() if config.trainer[flag] is False for name in names}
        if self.resumed:
            off |= {finder.__name__ for finder in FINDERS}  # what they found is in the checkpoint's configuration
        callbacks = _listed(config.trainer.callbacks)
        if sum("ProgressBar" in callback.class_path for callback in callbacks) > 1:
            off.add("RunProgressBar")  # the user's own one takes its place
        config.trainer.callbacks = [c for c in callbacks if c.class_path.rpartition(".")[2] not in off]
        for callback in config.trainer.callbacks:
            if callback.class_path.endswith(".ModelCheckpoint") and callback.init_args.dirpath is None:
                callback.init_args.dirpath = str(directory / "checkpoints")

    def instantiate_classes(self) -> None:
        """Make data, model and trainer, and refuse what does not fit together.

        Raises:
            UserError: The model does not fit the data, was given sizes that are not theirs, or there are none.
        """
        no_data = "no data: name an experiment, such as --config configs/convnet_digits.yaml, or give --data"
        has_data = self.config[self.subcommand].get("data") is not None
        sizes = {name: self.config[self.subcommand].get(f"model.init_args.{name}") for name in LINKS}
        constructor = Constructor()
        self.parser.add_instantiator(constructor, object)  # of what is neither the model nor the data
        try:
            with _no_loader_is_called():
                super().instantiate_classes()
        except ValueError as error:  # jsonargparse wraps what a constructor raises in a report on types
            failure = constructor.failure(error)
            if not has_data:  # from which the model takes its sizes
                raise UserError(f"{no_data} (without, the model says: {failure})") from error
            raise failure from error
        if not has_data and not is_overridden("train_dataloader", self.model):
            raise UserError(no_data)
        for name, value in sizes.items():
            true_size = getattr(self.datamodule, name, value)
            if value is not None and value != true_size:
                raise UserError(f"model.{name} is {value}, but the data have {true_size}: leave it out")
        check_model_fits_data(self.model, self.datamodule)
        seed_setup(self.model, self.datamodule)
        if self.resumed:
            check_weights_fit(self.resumed, self.model)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer, with one more callback that records the configuration.

        Raises:
            UserError: An argument has a value that the Trainer does not know.
        """
        plugins = _as_list(self._get(self.config_init, "trainer.plugins") or [])
        check_options(self._get(self.config_init, "trainer"), plugins)
        plugins = [*plugins, SafeCheckpointIO()]
        if self._get(self.config_init, "trainer.sync_batchnorm"):
            plugins.append(SyncBatchNorm())
        renew_store()
        try:
            trainer = super().instantiate_trainer(plugins=plugins, **kwargs)
        except (ValueError, TypeError, MisconfigurationException, ModuleNotFoundError) as error:
            fix = " Leave --trainer.accelerator out to take what there is" if "backend found" in str(error) else ""
            raise UserError(f"trainer: {error}{fix}") from error
        except RuntimeError as error:
            if "more than one stateful callback" not in str(error):
                raise
            raise UserError(f"two callbacks do the same, as with two ModelCheckpoints of one score: {error}") from error
        check_hardware(trainer, self._get(self.config_init, "trainer.precision"))
        for logger in trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                logger.config = self.record
        run_config = RunConfig(self.record, self.command)
        # first, as it chooses the score that ModelCheckpoint looks at
        trainer.callbacks = [MonitoredScores(run_config), *trainer.callbacks]  # type: ignore[attr-defined]
        trainer.callbacks += [run_config, FiniteLoss(), EpochSoFar()]  # type: ignore[attr-defined]
        trainer.callbacks.append(FusedClipping())  # type: ignore[attr-defined]
        if any(isinstance(callback, FINDERS) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            trainer.callbacks.append(KeepFound(run_config))  # type: ignore[attr-defined]
        if self.resumed:
            trainer.callbacks += [  # type: ignore[attr-defined]
                ChangedOptimizer(self.changes),
                StateMemoryFormat(),
                ResumedPlateau(),
                ResumedFinetuning(),
                ResumedAccumulation(),
            ]
        trainer.callbacks.append(GlobalBatch())  # type: ignore[attr-defined]  # after what sets the accumulation
        if choice := self._get(self.config_init, "lr_scheduler"):
            trainer.callbacks.append(ResumedSchedule(choice))  # type: ignore[attr-defined]
        # what the others do as an epoch begins must come after the checkpoint between epochs
        last = next(c for c in trainer.callbacks if isinstance(c, LastCheckpoint))  # type: ignore[attr-defined]
        others = [c for c in trainer.callbacks if c is not last]  # type: ignore[attr-defined]
        trainer.callbacks = [last, GracefulShutdown(last), *others]  # type: ignore[attr-defined]
        drop_idle_hooks(trainer.callbacks)  # type: ignore[attr-defined]
        return trainer

    def before_fit(self) -> None:
        """Refuse what could not train to its end."""
        check_parts(self.trainer, bool(self.resumed))
        check_schedule_end(self.model, self.resumed, self.changes, self.config.fit.lr_scheduler)
        if self._get(self.config_init, "trainer.sync_batchnorm") and self.trainer.world_size > 1:
            check_batch_norms(self.model)
        if self.test_is_left:
            self.trainer.limit_train_batches = 0  # Lightning then restores everything, and trains nothing
            return
        check_fit(self.trainer, self.model, self.datamodule, Path(self.trainer.default_root_dir))
        make_resumable(self.model, self.datamodule)
        announce_nodes(self.trainer)

    def before_validate(self) -> None:
        """Refuse to validate nothing; likewise to test and to predict."""
        # a callback that only trains has nothing to restore here
        warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint need to be provided")
        split = "val" if self.subcommand == "validate" else str(self.subcommand)
        check_evaluation(self.trainer, self.model, self.datamodule, split)
        announce_nodes(self.trainer)

    before_test = before_predict = before_validate

    def after_fit(self) -> None:
        """Test the best checkpoint and say where everything is.

        Raises:
            UserError: Not one step was trained.
        """
        if self.trainer.global_step == self.resumed.get("global_step", 0) and not self.test_is_left:
            limits = limits_to_raise(self.record, self.trainer.current_epoch, self.trainer.global_step)
            raise UserError(f"no step was left to train: raise {limits} to go on")
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        missing = missing_for(self.model, self.datamodule, "test")
        if self.config.fit.test_after_fit and missing:
            _say(f"test  no test after fit: {missing}")
        elif self.config.fit.test_after_fit:
            # at a load, WeightAveraging would take the weights before averaging, which the file holds as well
            callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
            self.trainer.callbacks = [c for c in callbacks if not isinstance(c, WeightAveraging)]  # type: ignore[attr-defined]
            kind = ", averaged weights" if self.trainer.callbacks != callbacks else ""  # type: ignore[attr-defined]
            _say(f"from  {_short(best) if best else 'the weights of the last step'}{kind}")
            self.trainer.test(self.model, self.datamodule, ckpt_path=best or None, verbose=False, weights_only=True)
        self._report(best)

    def after_test(self) -> None:
        """Say where the run is."""
        self._report()

    after_validate = after_predict = after_test

    def _report(self, best: str = "") -> None:
        split = {TrainerFn.VALIDATING: "val", TrainerFn.TESTING: "test"}.get(self.trainer.state.fn or TrainerFn.FITTING)
        if split is not None and self.trainer.callback_metrics:
            shown = (f"{name} {float(value):.4g}" for name, value in sorted(self.trainer.callback_metrics.items()))
            _say(f"{split:<6}{', '.join(shown)}")
        scores = best_scores(self.trainer.checkpoint_callback, Path(self.trainer.default_root_dir)) if best else {}
        if scores:
            epoch = f"epoch {scores.pop('epoch') + 1:.0f}: " if "epoch" in scores else ""
            shown = (f"{name} {value:.4g}" for name, value in scores.items() if name.startswith("val"))
            _say(f"best  {epoch}{', '.join(shown)}")
        _say(f"run   {shlex.quote(_short(self.trainer.default_root_dir))}")
        for logger in self.trainer.loggers:
            if isinstance(logger, RunWandbLogger) and logger.where:
                _say(f"W&B   {logger.where}")
        if best:
            command = "predict" if missing_for(self.model, self.datamodule, "test") else "test"
            _say(f"next  leyden {command} --ckpt_path {shlex.quote(_short(best))}")


@contextmanager
def _no_loader_is_called() -> Iterator[None]:
    """Keep DataModules from calling their loaders, before `setup`, for the sake of a message that nobody sees.

    Of a link whose source is missing, jsonargparse puts `str(data)` into a debug message, and Lightning's `__str__`
    calls all four loaders; where these are in a dict or None, it raises.
    """
    original = LightningDataModule.__str__
    LightningDataModule.__str__ = object.__str__  # type: ignore[method-assign]
    try:
        yield
    finally:
        LightningDataModule.__str__ = original  # type: ignore[method-assign]


def _set_monitor(config: jsonargparse.Namespace) -> None:
    """Let the first ModelCheckpoint, best.ckpt's, go by the score that --monitor and --mode name."""
    found = [c.init_args for c in _listed(config.trainer.callbacks) if c.class_path.endswith(".ModelCheckpoint")]
    if not found:
        raise UserError("--monitor says what best.ckpt goes by, but there is no ModelCheckpoint among the callbacks")
    found[0].monitor = config.monitor or found[0].monitor
    found[0].mode = config.mode or mode_of(str(found[0].monitor))
    if found[0].mode is None:
        raise UserError(f"--monitor {config.monitor}: say which is better, with --mode min or --mode max")


@rank_zero_only
def _say(line: str) -> None:
    print(line, flush=True)


def _listed(value: Any) -> list[jsonargparse.Namespace]:
    """Return the classes that a value asks for, which may be one, a list of them, null, true or false."""
    return [item for item in _as_list(value) if isinstance(item, jsonargparse.Namespace)]


def _is_unplaced(logger: jsonargparse.Namespace) -> bool:
    """Say whether a logger writes into the run's directory, as its `save_dir` is empty or the default of its class.

    Raises:
        UserError: It is one of this project, which write nowhere else.
    """
    module, _, name = logger.class_path.rpartition(".")
    save_dir = inspect.signature(getattr(importlib.import_module(module), name)).parameters.get("save_dir")
    unplaced = save_dir is not None and logger.init_args.save_dir in ("", None, save_dir.default)
    if module.startswith("leyden.") and save_dir is not None and not unplaced:
        raise UserError(f"{name} writes into the run's directory: leave its save_dir out")
    return unplaced


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _short(path: str) -> str:
    """Return a path as seen from the current directory, where that is shorter."""
    return min(path, os.path.relpath(path), key=len)
