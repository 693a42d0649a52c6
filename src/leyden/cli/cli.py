"""The command line: LightningCLI, with this project's conventions."""

import argparse
import warnings
from functools import partial
from typing import Any, Literal, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.model_helpers import is_overridden

from leyden import PROJECT
from leyden.callbacks.prediction_writer import PredictionWriter
from leyden.callbacks.sync_batchnorm import check_batch_norms
from leyden.checkpoints.last_checkpoint import LastCheckpoint
from leyden.checkpoints.resume import check_weights_fit
from leyden.checkpoints.resumed_schedule import Choice, check_schedule_end
from leyden.cli.arguments import read_arguments
from leyden.cli.check_model import check_layers, check_model_fits_data, check_sizes
from leyden.cli.check_ranks import compare_data, meet
from leyden.cli.class_list import class_list, import_classes
from leyden.cli.compatibility import check_parts
from leyden.cli.constructor import NO_DATA, Constructor
from leyden.cli.messages import explain_arguments
from leyden.cli.parser import STRICT_YAML, Parser, secure_parsing
from leyden.cli.preflight import check_evaluation, check_fit
from leyden.cli.report import finish_fit, report
from leyden.cli.run import prepare_run
from leyden.cli.trainer import callbacks_of, make_trainer
from leyden.data.resumable import make_resumable, seed_setup
from leyden.data.seeds import check_seed
from leyden.errors import UserError
from leyden.lightning_internals import loaders_not_called
from leyden.models.task import Task
from leyden.runs.wandb import WandbOptions
from leyden.security import check_loading

SIZES = ("input_shape", "num_classes", "out_features")  # attributes of the data, arguments of the model


class CLI(LightningCLI):
    """`leyden fit`, `validate`, `test` and `predict`. It restricts what this process may import by a configuration.

    Args:
        args: The subcommand and what follows it on the command line.
        trainer_class: The Trainer, which has the methods of the subcommands.
    """

    def __init__(self, args: list[str], trainer_class: type[Trainer] = Trainer) -> None:
        secure_parsing()
        import_classes()
        self.parsers: list[LightningArgumentParser] = []  # of the subcommands
        strict = {"exit_on_error": False, "allow_abbrev": False, "parser_mode": STRICT_YAML}
        defaults = {"default_config_files": [str(PROJECT / "configs" / "defaults.yaml")]}
        super().__init__(
            LightningModule,
            None,  # any LightningDataModule; a LightningModule may have its own loaders instead
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,  # RunConfig does it
            trainer_class=trainer_class,
            parser_class=Parser,
            parser_kwargs={**strict, **{name: {**strict, **defaults} for name in self.subcommands()}},
            args=args,
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> "CLI":
        """Return this object itself, so that a copy of the model does not copy the trainer and the data.

        Weight averaging copies the model. An optimizer that comes from YAML refers to jsonargparse's instantiator, that
        to Lightning's, and that to this object, whose trainer holds locks as soon as it has started other processes.
        """
        return self

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add this project's options, and take the sizes of the model from the data."""
        self.parsers.append(parser)
        parser.add_argument("--name", type=str | None, help="Experiment's name; default: the first --config's.")
        parser.add_argument("--monitor", type=str | None, help="Score that selects best.ckpt; default: val/loss.")
        parser.add_argument("--mode", type=Literal["min", "max"] | None, help="What is better; default: by its name.")
        parser.add_argument("--lr_scheduler", type=Choice | None, help="What follows its end in an extended run.")
        parser.add_argument("--test_after_fit", type=bool, default=True, help="Test the best checkpoint after fit.")
        parser.add_class_arguments(WandbOptions, "wandb")
        parser.add_class_arguments(LastCheckpoint, "checkpoint")
        for name in SIZES:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse in the order defaults, checkpoint, each --config, flags: the later wins.

        Raises:
            UserError: The arguments do not fit together, or there is no checkpoint where one is needed.
        """
        command = cast("list[str]", args)
        if listed := class_list(command[1:]):
            print(listed)
            raise SystemExit(0)
        self.args = read_arguments(command)
        self.subparser = self.parsers[list(self.subcommands()).index(command[0])]
        if command[0] in ("validate", "test"):
            self.subparser.set_defaults(verbose=False)  # `report` has a line in place of Lightning's table of scores
        try:
            self.config = parser.parse_args(self.args.in_order())
        except argparse.ArgumentError as error:
            raise explain_arguments(error, self.subparser, self.args.configs) from error
        check_loading(self.config[command[0]])
        check_seed(self.config[command[0]].seed_everything)

    def before_instantiate_classes(self) -> None:
        """Prepare the run; its directory is then passed to the loggers and the checkpoint callbacks."""
        self.run = prepare_run(self.args, self.config[self.args.subcommand], self.subparser)

    def instantiate_classes(self) -> None:
        """Construct data, model and trainer.

        Raises:
            UserError: The model does not fit the data, is given sizes that differ from theirs, or there are no data.
        """
        config = self.config[self.run.subcommand]
        sizes = {name: config.get(f"model.init_args.{name}") for name in SIZES}
        constructor = Constructor(self.run, has_data=config.get("data") is not None)
        self.parser.add_instantiator(constructor, object)  # for all classes but those of the model and the data
        try:
            with loaders_not_called():
                super().instantiate_classes()
        except ValueError as error:  # jsonargparse wraps what a constructor raises in a report on types
            raise constructor.failure(error) from error
        if self.datamodule is None and not is_overridden("train_dataloader", self.model):
            raise UserError(NO_DATA)
        check_sizes(sizes, self.datamodule)
        check_layers(self.model)
        seed_setup(self.model, self.datamodule)
        if self.run.is_resumed:
            check_weights_fit(self.run.checkpoint, self.model)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Construct the Trainer with the loggers, callbacks and plugins of this run."""
        config = self.config_init[self.run.subcommand]
        callbacks = callbacks_of(self.run, config.trainer, config.checkpoint, config.lr_scheduler)
        make = partial(super().instantiate_trainer, callbacks=callbacks, **kwargs)
        trainer = make_trainer(make, self.run, config.trainer)
        self.meeting = meet(trainer, self.run, (self.model, self.datamodule))
        return trainer

    def before_fit(self) -> None:
        """Refuse what could not train to its end."""
        config, run = self.config_init["fit"], self.run
        check_parts(self.trainer, run.is_resumed)
        check_schedule_end(self.model, run.checkpoint, run.changes, config.lr_scheduler)
        if config.trainer.sync_batchnorm and self.trainer.world_size > 1:
            check_batch_norms(self.model)
        self._name_checkpoint()
        if run.only_test:
            self.trainer.limit_train_batches = 0  # Lightning then restores everything, and trains nothing
            return
        if isinstance(self.model, Task) and not run.is_resumed:
            self.model.load_initial_weights()
        check_fit(self.trainer, self.model, self.datamodule, run.directory)
        make_resumable(self.model, self.datamodule, config.trainer.use_distributed_sampler is not False)
        compare_data(self.meeting, self.datamodule)

    def before_validate(self) -> None:
        """Refuse to evaluate zero batches."""
        # a callback that only trains has nothing to restore here
        warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint need to be provided")
        split = "val" if self.run.subcommand == "validate" else self.run.subcommand
        check_evaluation(self.trainer, self.model, self.datamodule, split)
        check_model_fits_data(self.model, self.datamodule)
        self._name_checkpoint()

    before_test = before_validate

    def before_predict(self) -> None:
        """Refuse to predict zero batches, and pass `--all` on."""
        self.before_validate()
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, PredictionWriter) and self.args.all_classes:
                callback.all_classes = True

    def _name_checkpoint(self) -> None:
        """Pass the checkpoint to the Trainer; if it were parsed, Lightning would overwrite flags from it."""
        self.config_init[self.run.subcommand].ckpt_path = self.args.ckpt_path and str(self.args.ckpt_path)

    def after_fit(self) -> None:
        """Test the best checkpoint and report."""
        finish_fit(self.run, self.trainer, self.model, self.datamodule, self.config.fit.test_after_fit)

    def after_test(self) -> None:
        """Report."""
        report(self.trainer)

    after_validate = after_predict = after_test
