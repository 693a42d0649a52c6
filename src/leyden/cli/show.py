"""`leyden show`: what is in the data, and the first training batch as the network gets it."""

import warnings
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from leyden.callbacks.classifier_outputs import class_names
from leyden.cli.batch_picture import check_picture, draw_batch
from leyden.cli.cli import CLI
from leyden.cli.console import say
from leyden.cli.constructor import Constructor
from leyden.cli.contents import contents
from leyden.data.resumable import make_resumable, seed_setup
from leyden.lightning_internals import loaders_not_called


class FirstBatch(LightningModule):
    """Keep the first training batch, where a model would train on it."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.batch: Any = None

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Keep the batch, and end the training."""
        self.batch = batch
        self.trainer.should_stop = True

    def configure_optimizers(self) -> None:
        """Train nothing."""


class ShowTrainer(Trainer):
    """The Trainer of `leyden show`: its method has the arguments of the subcommand."""

    def show(
        self,
        model: FirstBatch,
        datamodule: LightningDataModule,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        output: str = "batch.png",
        count: int = 32,
    ) -> None:
        """Show what is in the data, and draw the first training batch as the network gets it.

        Args:
            model: What keeps the batch.
            datamodule: The data.
            ckpt_path: As for `fit`: a checkpoint whose data to show.
            weights_only: As for `fit`.
            output: The picture.
            count: Maximum number of images in the picture.
        """
        self.fit(model, datamodule=datamodule)
        names = class_names(self, getattr(datamodule, "num_classes", 0))
        for line in contents(datamodule, names):
            say(line)
        say(draw_batch(Path(output), model.batch, datamodule, names, count))


class ShowCLI(CLI):
    """`leyden show`, which takes the arguments of `fit` and constructs the data only.

    Args:
        args: The subcommand and what follows it on the command line.
    """

    def __init__(self, args: list[str]) -> None:
        super().__init__(args, ShowTrainer)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the subcommand, and which arguments of its method are no options."""
        return {"show": {"model", "datamodule"}}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Accept a model, but do not need it."""
        parser.add_lightning_class_args(ShowTrainer, "trainer")
        parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True, required=False)
        parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)

    def before_instantiate_classes(self) -> None:
        """Check the options of the picture. There is no run to prepare.

        Raises:
            UserError: It cannot be drawn.
        """
        check_picture(Path(self.config.show.output), self.config.show.count)

    def instantiate_classes(self) -> None:
        """Construct the data, and a Trainer for the first step.

        Raises:
            UserError: The data cannot be constructed.
        """
        config = self.config.clone()
        on_cpu = config.show.trainer.accelerator == "cpu"
        config.show.pop("model")
        config.show.pop("trainer")  # with all callbacks and loggers
        constructor = Constructor(None, has_data=True)
        self.parser.add_instantiator(constructor, object)
        try:
            with loaders_not_called():
                self.config_init = self.parser.instantiate(config)
        except ValueError as error:
            raise constructor.failure(error) from error
        self.datamodule, self.model = self.config_init.show.data, FirstBatch()
        seed_setup(self.model, self.datamodule)
        make_resumable(self.model, self.datamodule)
        warnings.filterwarnings("ignore", ".*(no `validation_step`|run with no optimizer)")
        self.trainer = ShowTrainer(
            accelerator="cpu" if on_cpu else "auto",
            devices=1,
            plugins=[LightningEnvironment()],  # one process, also where SLURM or torchrun would start more
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
