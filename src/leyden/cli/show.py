"""`leyden show`: what is in the data, and the first training batch as the network gets it."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor

from leyden.callbacks.classifier_outputs import class_names
from leyden.callbacks.image_grid import draw_images, pixels
from leyden.cli.cli import CLI
from leyden.cli.console import say
from leyden.cli.constructor import Constructor
from leyden.cli.contents import contents
from leyden.data.image_files import printable
from leyden.data.resumable import make_resumable, seed_setup
from leyden.errors import UserError
from leyden.lightning_internals import loaders_not_called

COLUMNS = 8
MAX_NAME = 18  # characters of the name of a class above an image
MAX_NUMBERS = 4  # of a target above an image


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


def check_picture(path: Path, count: int) -> None:
    """Refuse a picture that could not be drawn.

    Raises:
        UserError: It would have no image, or it cannot be written under this name.
    """
    if count < 1:
        raise UserError(f"--count is {count}, but must be 1 or more")
    if path.suffix.lower() != ".png":
        raise UserError(f"--output {path}: the picture is a PNG file, so its name must end in .png")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"--output {path} is a folder: name a file")


def draw_batch(path: Path, batch: Any, data: LightningDataModule, names: Sequence[str], count: int) -> str:
    """Draw the images of a batch, and return a line that says where they are or why there are none.

    Args:
        path: The picture.
        batch: Normally inputs (B, ...) and targets (B, ...).
        data: The data.
        names: Names of the classes.
        count: Maximum number of images.
    """
    parts = batch if isinstance(batch, tuple | list) else [batch]
    if not all(isinstance(part, Tensor) for part in parts) or len(parts) != 2:
        return f"batch  {type(batch).__name__} instead of two tensors, so there is no picture"
    x, y = (part.detach().cpu() for part in parts)
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        described = ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (x, y))
        return f"batch  {described}: no images, so there is no picture"
    existed = path.exists()
    shown = min(count, len(x))
    what = f"{shown} of {len(x)} images of the first training batch"
    texts = label_texts(y[:shown], names)
    draw_images(path, f"{type(data).__name__}: {what}", pixels(x[:shown], data), texts, COLUMNS)
    return f"file  {path}: {what}{', in place of an earlier file' if existed else ''}"


def label_texts(y: Tensor, names: Sequence[str]) -> list[str]:
    """Return the text above each image: its class, the classes of a mixture with their shares, or numbers.

    Args:
        y: Labels (B,), probabilities of the classes (B, C), or other targets (B, ...).
        names: Names of the C classes.
    """
    short = [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..." for name in map(printable, names)]
    if y.ndim == 1 and not y.is_floating_point():
        return [short[i] if 0 <= i < len(short) else str(i) for i in y.tolist()]
    if y.ndim == 2 and y.shape[1] == len(short):
        rows = [sorted(zip(row, short, strict=True), reverse=True)[:2] for row in y.tolist()]
        return ["\n".join(f"{name} {share:.2g}" for share, name in row if share > 0) for row in rows]
    return [", ".join(f"{value:.3g}" for value in row[:MAX_NUMBERS]) for row in y.reshape(len(y), -1).tolist()]
