"""Run other loops between the epochs of `leyden fit`, so that other load on the machine affects all of them alike."""

import copy
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from baselines import MEAN, STD, bare_epoch, per_sample_loader, plain_transform, usual_module
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from measure import seconds, timed
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leyden.cli.cli import CLI


class Clock(Callback):
    """Measure each epoch: the training alone, and with validation and saves."""

    def __init__(self) -> None:
        self.training: list[float] = []
        self.whole: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.start, self.validation = seconds(), 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pause the clock."""
        self.validation_start = seconds()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue the clock."""
        if not trainer.sanity_checking:
            self.validation += seconds() - self.validation_start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.whole.append(seconds() - self.start)
        self.training.append(self.whole[-1] - self.validation)


class Rivals:
    """The other loops, with the data, the network and the optimizer of a run of leyden.

    Where nothing is augmented, they are given normalised images, as one would do; else they augment as leyden does.
    """

    def __init__(self, trainer: Trainer, model: Any) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self.data = copy.copy(data)
        for hook in ("setup", "train_dataloader"):  # as wrapped for the run, they would ask its trainer for the epoch
            vars(self.data).pop(hook, None)
        train, val = data.train_set, data.val_set
        device = model.device
        self.x, self.y = train.x[train.indices].to(device), train.labels.to(device)
        self.pictures, self.labels = train.x[train.indices].squeeze(1), train.labels
        self.val = (val.x[val.indices].squeeze(1), val.labels)
        self.prepare = None
        if getattr(data, "augment", None):

            def prepare(x: Tensor) -> Tensor:
                for transform in data.augment:
                    x = transform(x)
                return data.normalize(x).contiguous(memory_format=torch.channels_last)

            self.prepare = prepare
        elif hasattr(data, "normalize"):
            self.x = data.normalize(self.x)
        self.network = copy.deepcopy(model.network)
        self.model = copy.copy(model)  # with its own network and metrics
        vars(self.model).update(_modules={"network": self.network}, _metrics={})
        self.make_optimizer = model.optimizer
        self.make_scheduler = model.lr_scheduler or (lambda optimizer, total_steps: None)
        self.of_bare_loop: dict[bool | None, tuple[Any, Any]] = {}  # optimizer and schedule, by `fused`
        self.label_smoothing = model.label_smoothing
        self.precision: Any = trainer.precision
        self.batch_size, self.steps = data.batch_size, trainer.num_training_batches

    def bare(self, fused: bool | None = None) -> float:
        """Train an epoch in the bare loop.

        Args:
            fused: Whether the optimizer's step is one kernel; None for torch's default, as most loops have it.
        """
        if fused not in self.of_bare_loop:
            optimizer = self.make_optimizer(self.network.parameters(), fused=fused)
            self.of_bare_loop[fused] = (optimizer, self.make_scheduler(optimizer, total_steps=10**6))
        optimizer, scheduler = self.of_bare_loop[fused]
        bf16 = self.precision == "bf16-mixed"
        options = (self.batch_size, int(self.steps), self.prepare, scheduler, self.label_smoothing)
        return timed(lambda: bare_epoch(self.network, optimizer, self.x, self.y, *options, bf16=bf16))

    def bare_fused(self) -> float:
        """Train an epoch in the bare loop with the fused optimizer."""
        return self.bare(fused=True)

    def switched_off(self) -> float:
        """Train an epoch of the same module and data under a Trainer with everything switched off."""
        off: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        off |= {"enable_model_summary": False, "limit_val_batches": 0, "limit_train_batches": int(self.steps)}
        clock = Clock()
        trainer = Trainer(max_epochs=1, precision=self.precision, callbacks=[clock], **off)
        trainer.fit(self.model, datamodule=self.data)
        return clock.training[0]

    def barebones(self) -> float:
        """Train an epoch with `Trainer(barebones=True)` and a module that only returns its loss."""
        rivals = self

        class Floor(LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.network = rivals.network

            def training_step(self, batch: Any, batch_idx: int) -> Tensor:
                x, y = batch
                return F.cross_entropy(self.network(x), y, label_smoothing=rivals.label_smoothing)

            def configure_optimizers(self) -> Any:
                return rivals.make_optimizer(self.parameters())

        class Batches:
            """Batches from memory, without a loader: nothing can be faster."""

            def __len__(self) -> int:
                return int(rivals.steps)

            def __iter__(self) -> Any:
                order = torch.randperm(len(rivals.y), device=rivals.y.device)
                for index in order.split(rivals.batch_size)[: int(rivals.steps)]:
                    x = rivals.x.index_select(0, index)
                    yield rivals.prepare(x) if rivals.prepare else x, rivals.y.index_select(0, index)

        clock = Clock()
        trainer = Trainer(max_epochs=1, barebones=True, precision=self.precision)
        trainer.callbacks.append(clock)  # type: ignore[attr-defined]
        trainer.fit(Floor(), Batches())
        return clock.training[0]

    def usual(self) -> float:
        """Train and validate an epoch of MNIST in the usual way."""
        transform = plain_transform(MEAN, STD)
        train = per_sample_loader(self.pictures, self.labels, self.batch_size, transform)
        val = per_sample_loader(*self.val, self.batch_size, transform, shuffle=False)
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            best = ModelCheckpoint(monitor="val/loss", save_last=True)
            logger = CSVLogger(folder)
            # without a progress bar: a terminal has room for one, and leyden's is on
            trainer = Trainer(max_epochs=1, logger=logger, callbacks=[best, clock], enable_progress_bar=False)
            plain = partial(self.make_optimizer, fused=None)  # as most modules have it
            trainer.fit(usual_module(self.network, plain), train, val)
        return clock.whole[0]


def fit_with(callback: Callback, arguments: list[str]) -> None:
    """Run `leyden fit ARGUMENTS` with an additional callback in a temporary folder, without the test after training."""

    class OneMore(CLI):
        def instantiate_trainer(self, **kwargs: Any) -> Trainer:
            trainer = super().instantiate_trainer(**kwargs)
            trainer.callbacks.append(callback)  # type: ignore[attr-defined]
            return trainer

    with tempfile.TemporaryDirectory() as folder:
        OneMore(["fit", *arguments, "--trainer.default_root_dir", folder, "--test_after_fit", "false"])


def fit_beside(
    arguments: list[str], rounds: int, **sides: Callable[[Rivals], float]
) -> tuple[Clock, dict[str, list[float]]]:
    """Run `leyden fit` for some epochs, and after each of them one epoch of each other side.

    Returns:
        The measurements of leyden's epochs and those of the other sides, each without the first, which warms up.
    """
    others: dict[str, list[float]] = {name: [] for name in sides}

    class Interleaved(Clock):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            super().on_train_epoch_end(trainer, pl_module)
            if not self.whole[1:]:
                self.rivals = Rivals(trainer, pl_module)
            for name, epoch in sides.items():
                others[name].append(epoch(self.rivals))

    clock = Interleaved()
    fit_with(clock, [*arguments, "--trainer.max_epochs", str(rounds + 1)])
    clock.training.pop(0)
    clock.whole.pop(0)
    for times in others.values():
        times.pop(0)
    return clock, others
