"""The command line: LightningCLI, with this project's conventions."""

import argparse
import importlib
import json
import os
import pkgutil
import shlex
from pathlib import Path
from typing import Any, cast

import jsonargparse
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

import leyden.data
import leyden.models
from leyden import PROJECT
from leyden.class_list import class_list
from leyden.errors import UserError
from leyden.explain import arguments, explain
from leyden.security import check_file, check_loading
from leyden.training.callbacks import RunConfig
from leyden.training.checkpoint_io import SafeCheckpointIO, read_checkpoint
from leyden.training.checkpoints import LastCheckpoint
from leyden.training.logs import rewind_metrics
from leyden.training.overhead import drop_idle_hooks
from leyden.training.preflight import announce_nodes, check_evaluation, check_fit, check_hardware, check_model_fits_data
from leyden.training.resume import ChangedOptimizer, check_resumable, check_weights_fit, differences, limits_to_raise
from leyden.training.runs import (
    LAST,
    RUNS,
    best_scores,
    find_checkpoint,
    make_run_directory,
    requeued_run,
)
from leyden.training.tracking import RunWandbLogger, WandbOptions

for package in (
    leyden.data,
    leyden.models,
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
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,  # RunConfig does it
            parser_kwargs={**strict, **{name: {**strict, **defaults} for name in SUBCOMMANDS}},
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add this project's own options, and take the model's sizes from the data."""
        parser.add_argument("--name", type=str | None, help="Experiment's name; default: the first --config's.")
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
        if subcommand not in SUBCOMMANDS:
            raise UserError(f"no command `{subcommand}`; there are {', '.join(SUBCOMMANDS)} (see `leyden --help`)")
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
            options += [f"model.{name}" for name in arguments("leyden.models.base.Classifier")]
            options += ["model.optimizer.lr"]
            options += [f"data.{name}" for name in arguments("leyden.data.base.ArrayDataModule")]
            raise UserError(explain(str(error), options)) from error
        check_loading(self.config[subcommand], has_checkpoint=bool(self.resumed))

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

        experiments = [Path(config).stem for config in given.config if Path(config).parent.name != "with"]
        self.default_name = next(iter(experiments), None)
        self.resumed: dict[str, Any] = {}
        self.own_run: Path | None = None  # the directory in which a resumed run goes on
        first = []
        root = Path(given.root or RUNS)
        if subcommand == "fit" and not given.ckpt_path:
            given.ckpt_path = requeued_run(root)
        if given.ckpt_path:
            default = "last" if subcommand == "fit" else "best"
            path = find_checkpoint(given.ckpt_path, root, given.name or self.default_name, default)
            self.resumed = read_checkpoint(path)
            _say(f"from  {_short(str(path))}, step {self.resumed.get('global_step')}")
            # from any other file of a run, a new one branches off
            if subcommand == "fit" and (not Path(given.ckpt_path).is_file() or path.name == LAST):
                self.own_run = path.absolute().parents[1]
            first = [f"--config={json.dumps(self._remembered(subcommand))}"]
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
        record = yaml.safe_load(self._parser(self.subcommand).dump(config, skip_unset=False))
        self.record = {key: value for key, value in record.items() if key != "ckpt_path"}

        self.changes = {}
        if self.resumed and self.subcommand == "fit":
            self.changes = differences(self.resumed.get("config", self.record), self.record)
            for option, (old, new) in self.changes.items():
                _say(f"      {option}: {old} -> {new}")
            check_resumable(self.resumed, self.changes, self.record)

        directory = Path(config.trainer.default_root_dir or RUNS).absolute() / config.name
        if self.own_run and config.name == self.resumed.get("config", {}).get("name"):
            directory = self.own_run
            if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
                rewind_metrics(directory / "metrics.csv", self.resumed["global_step"])
        elif rank_zero_only.rank == 0:  # type: ignore[attr-defined]  # the other ranks are told by this one
            directory = make_run_directory(directory, "" if self.subcommand == "fit" else f"_{self.subcommand}")
        config.trainer.default_root_dir = str(directory)
        loggers = _listed(config.trainer.logger)
        for logger in loggers:
            logger.init_args.save_dir = str(directory)
            if logger.class_path.endswith(".RunWandbLogger"):
                config.wandb.job_type = config.wandb.job_type or self.subcommand
                logger.init_args.options = config.wandb
        if loggers and (config.wandb.mode or os.environ.get("WANDB_MODE")) == "disabled":
            config.trainer.logger = [logger for logger in loggers if not logger.class_path.endswith(".RunWandbLogger")]
        # with a callback in the list, Lightning would ignore or refuse the flag that switches it off
        off = {name for flag, names in SWITCHES.items() if config.trainer[flag] is False for name in names}
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
            UserError: The model does not fit the data, or was given sizes that are not those of the data.
        """
        sizes = {name: self.config[self.subcommand].get(f"model.init_args.{name}") for name in LINKS}
        try:
            super().instantiate_classes()
        except ValueError as error:  # jsonargparse wraps what a constructor raises in a report on types
            innermost: BaseException = error
            while innermost.__cause__ is not None:
                innermost = innermost.__cause__
            if isinstance(innermost, UserError):
                raise innermost from None
            raise UserError(f"an argument of the model or of the data is wrong: {innermost}") from error
        for name, value in sizes.items():
            true_size = getattr(self.datamodule, name, value)
            if value is not None and value != true_size:
                raise UserError(f"model.{name} is {value}, but the data have {true_size}: leave it out")
        check_model_fits_data(self.model, self.datamodule)
        if self.resumed:
            check_weights_fit(self.resumed, self.model)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer, with one more callback that records the configuration.

        Raises:
            UserError: An argument has a value that the Trainer does not know.
        """
        plugins = self._get(self.config_init, "trainer.plugins") or []
        try:
            trainer = super().instantiate_trainer(plugins=[*_as_list(plugins), SafeCheckpointIO()], **kwargs)
        except (ValueError, MisconfigurationException, ModuleNotFoundError) as error:
            fix = " Leave --trainer.accelerator out to take what there is" if "backend found" in str(error) else ""
            raise UserError(f"trainer: {error}{fix}") from error
        check_hardware(trainer, self._get(self.config_init, "trainer.precision"))
        for logger in trainer.loggers:
            if isinstance(logger, RunWandbLogger):
                logger.config = self.record
        trainer.callbacks += [RunConfig(self.record), ChangedOptimizer(self.changes)]  # type: ignore[attr-defined]
        # what the others do as an epoch begins must come after the checkpoint between epochs
        trainer.callbacks.sort(key=lambda callback: not isinstance(callback, LastCheckpoint))  # type: ignore[attr-defined]
        drop_idle_hooks(trainer.callbacks)  # type: ignore[attr-defined]
        return trainer

    def before_fit(self) -> None:
        """Refuse what could not train to its end."""
        check_fit(self.trainer, self.model, self.datamodule, Path(self.trainer.default_root_dir))
        announce_nodes(self.trainer)

    def before_validate(self) -> None:
        """Refuse to validate nothing; likewise to test and to predict."""
        check_evaluation(self.trainer, "val" if self.subcommand == "validate" else str(self.subcommand))
        announce_nodes(self.trainer)

    before_test = before_predict = before_validate

    def after_fit(self) -> None:
        """Test the best checkpoint and say where everything is.

        Raises:
            UserError: Not one step was trained.
        """
        if self.trainer.global_step == self.resumed.get("global_step", 0):
            limits = limits_to_raise(self.record, self.trainer.current_epoch, self.trainer.global_step)
            raise UserError(f"no step was left to train: raise {limits} to go on")
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "")
        if self.config.fit.test_after_fit:
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
            shown = (f"{name} {value:.4g}" for name, value in scores.items() if name.startswith("val/"))
            _say(f"best  {epoch}{', '.join(shown)}")
        _say(f"run   {shlex.quote(_short(self.trainer.default_root_dir))}")
        for logger in self.trainer.loggers:
            if isinstance(logger, RunWandbLogger) and logger.where:
                _say(f"W&B   {logger.where}")
        if best:
            _say(f"next  leyden test --ckpt_path {shlex.quote(_short(best))}")


@rank_zero_only
def _say(line: str) -> None:
    print(line, flush=True)


def _listed(value: Any) -> list[jsonargparse.Namespace]:
    """Return the classes that a value asks for, which may be one, a list of them, null, true or false."""
    return [item for item in _as_list(value) if isinstance(item, jsonargparse.Namespace)]


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _short(path: str) -> str:
    """Return a path as seen from the current directory, where that is shorter."""
    return min(path, os.path.relpath(path), key=len)
