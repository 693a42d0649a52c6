"""The tasks: loss, metrics, steps and optimizer set-up that the models share.

A model file subclasses a task, builds `self.network` and says nothing else.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, distributed, nn
from torch.nn import functional as F  # noqa: N812
from torchmetrics import MeanAbsoluteError, MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

import leyden.security  # noqa: F401  # what the hyper-parameters of a checkpoint may name, also without the command line
from leyden.errors import UserError
from leyden.models.lr_schedules import length_in_run
from leyden.models.objectives import (
    LossFactory,
    MetricFactory,
    blame,
    check_metrics,
    for_metrics,
    make_loss,
    make_metrics,
    with_sizes,
)

Batch = tuple[Tensor, Tensor]
HELD_VALUES = 2**18  # of the network's output, 1 MiB: what waits for the metrics, which cost the same for many batches


class Task(LightningModule):
    """What `Classifier` and `Regressor` have in common.

    Per split, `<split>/loss`, the task's own metrics and those it was given are logged once an epoch, exact over all
    its samples (also when the last batch is smaller, and over all ranks). They are summed in 64 bits, in which it does
    not show after which batches the sums were taken. `train/loss_step` is logged every `trainer.log_every_n_steps`
    steps.

    Args:
        input_shape: Shape of one sample without the batch dimension, (C, H, W) for images; from the data.
        optimizer: Optimizer class and its arguments. It is given the parameters that require a gradient.
        lr_scheduler: Learning-rate scheduler class and its arguments. It ends with the run where its `T_max`,
            `total_steps` or `total_iters` is left out; 0.5 there, or among `milestones`, is half of the run.
        lr_interval: Whether the scheduler is stepped once an epoch or after every optimizer step.
    """

    network: nn.Module

    def __init__(
        self,
        input_shape: tuple[int, ...],
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])  # the subclass's arguments as well
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.lr: float | None = None  # LearningRateFinder sets it; None leaves it to `optimizer`
        self.example_input_array = torch.zeros(2, *input_shape)  # the printed summary shows its way through
        self.loss_function: nn.Module | None = None  # in the place of the task's own
        self.more_metrics: Sequence[Callable[[], Metric]] = ()  # beside the task's own
        self._metrics: dict[str, dict[str, Metric]] = {}
        self._held: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}  # output, target and loss, batch by batch

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the one that Lightning sets some forty times a step is spared nn.Module's long way."""
        if name == "_current_fx_name":  # the hook that runs
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch (B, *input_shape) to the network's output (B, num_classes or out_features)."""
        output: Tensor = self.network(x)
        return output

    def inputs_and_targets(self, x: Tensor, y: Tensor) -> Batch:
        """Turn a batch into what `forward` is given and what its output is compared with; here, nothing changes."""
        return x, y

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar."""
        raise NotImplementedError

    def make_metrics(self) -> dict[str, Metric]:
        """Return the metrics of one split by name; each is updated with the network's output and the target."""
        raise NotImplementedError

    def example(self) -> tuple[Tensor, Tensor]:
        """Return outputs of the network and other targets, some of each, on which a loss and metrics are tried."""
        raise NotImplementedError

    def set_objectives(self, loss: LossFactory | None, metrics: Sequence[MetricFactory]) -> None:
        """Take a loss in the place of the task's own, and metrics beside its own.

        Raises:
            UserError: They do not fit.
        """
        if loss is not None:
            self.loss_function = make_loss(loss, *self.example())
        if metrics:
            self.more_metrics = with_sizes(metrics, getattr(self, "num_classes", None))
            check_metrics(self.more_metrics, ["loss", "loss_step", *self.make_metrics()], *self.example())

    def metrics(self, split: str) -> dict[str, Metric]:
        """Return the metrics of `split` over all its batches so far, made on the module's device at first use.

        They are kept out of the module tree: as children they would crowd the printed summary.
        """
        precise = torch.float32 if self.device.type == "mps" else torch.float64  # Apple's GPUs have no 64 bits
        if split not in self._metrics:
            made = {
                "loss": MeanMetric(nan_strategy="disable"),
                **self.make_metrics(),
                **make_metrics(self.more_metrics),
            }
            self._metrics[split] = {name: metric.to(self.device).set_dtype(precise) for name, metric in made.items()}
        metrics = self._metrics[split]
        if held := self._held.pop(split, None):
            outputs, targets, losses = zip(*held, strict=True)
            if targets[0].ndim == 0:
                raise UserError("a batch has one target of shape (), without a batch dimension: give targets (B, ...)")
            sizes = torch.tensor([len(output) for output in outputs], device=losses[0].device)
            output, y = for_metrics(torch.cat(outputs), torch.cat(targets), precise)
            for name, metric in metrics.items():
                if name == "loss":
                    # once a sample, so that a smaller last batch weighs less (`weight=` is ignored: torchmetrics 1.9
                    # drops it where NaN are let through, and they must be)
                    metric.update(torch.stack(losses).repeat_interleave(sizes))
                else:
                    with blame(f"{split}/{name}"):
                        metric.update(output, y)
        return metrics

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one training batch."""
        _, loss = self._step(batch, "train")
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/loss_step", loss, sync_dist=True)  # the mean over the ranks: of the global batch
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the validation metrics."""
        self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Update the test metrics, and return the network's output for callbacks that look closer."""
        return self._step(batch, "test")[0]

    def on_train_epoch_end(self) -> None:
        """Log the training metrics of the epoch."""
        self._log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics of the epoch."""
        self._log_epoch("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_epoch("test")

    def _step(self, batch: Batch, split: str) -> tuple[Tensor, Tensor]:
        try:
            x, y = self.inputs_and_targets(*(batch if not isinstance(batch, dict) else [batch]))
        except (TypeError, ValueError) as error:  # of data that are not this project's own
            kind = f"a {type(batch).__name__}" + (f" of {len(batch)}" if hasattr(batch, "__len__") else "")
            raise UserError(
                f"{type(self).__name__} takes batches of two, inputs and targets, and the data give {kind} ({error}): "
                "let their collate_fn make pairs, or override inputs_and_targets"
            ) from error
        output = self(x)
        loss = self.loss(output, y)
        held = self._held.setdefault(split, [])
        held.append((output.detach(), y, loss.detach()))
        if len(held) * output.numel() >= HELD_VALUES:
            self.metrics(split)
        return output, loss

    def _log_epoch(self, split: str) -> None:
        for name, metric in self.metrics(split).items():
            with blame(f"{split}/{name}"):
                value = metric.compute().float()
            # compute() has gathered all ranks; sync_dist averages equal values and spares a warning
            self.log(f"{split}/{name}", value, prog_bar=split == "val", sync_dist=True)
            metric.reset()

    def configure_optimizers(self) -> Any:
        """Hand the trainable parameters to the optimizer, and the optimizer to the scheduler."""
        found = {} if self.lr is None else {"lr": self.lr}
        optimizer = self.optimizer((p for p in self.parameters() if p.requires_grad), **found)
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer, **length_in_run(self.lr_scheduler, self.schedule_steps))
        monitor = getattr(scheduler, "monitor", None)
        config = {"scheduler": scheduler, "interval": self.lr_interval, "monitor": monitor}
        if monitor is not None and monitor.startswith("val/"):  # which is there after a validation only
            config["frequency"] = self.trainer.check_val_every_n_epoch or 1
        return {"optimizer": optimizer, "lr_scheduler": config}

    def schedule_steps(self) -> float:
        """Return how often the whole run steps its schedule; infinite or negative where it ends otherwise."""
        trainer = self.trainer
        if self.lr_interval == "step":
            return trainer.estimated_stepping_batches
        if trainer.max_steps == -1:
            return -1 if trainer.max_epochs is None else trainer.max_epochs
        if trainer.train_dataloader is None:
            trainer.fit_loop.setup_data()  # which counts the batches, as `estimated_stepping_batches` does
        if trainer.num_training_batches == math.inf:
            return 1
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)  # of an epoch
        return math.ceil(trainer.estimated_stepping_batches / steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write hyper-parameters as plain data, so that the file loads with `weights_only=True`.

        `load_from_checkpoint` turns the class names back into classes. A whole `nn.Module` among the arguments
        (`NetworkClassifier(network=...)` in Python) is left out: give it again when loading.
        """
        hparams = checkpoint.get("hyper_parameters", {})
        plain = {name: _plain(value) for name, value in hparams.items() if not isinstance(value, nn.Module)}
        checkpoint["hyper_parameters"] = {
            **plain,
            "_instantiator": "lightning.pytorch.cli.instantiate_module",
        }


class Classifier(Task):
    """Classification with cross-entropy over `num_classes` exclusive classes.

    The network emits logits (B, num_classes): no softmax at its end, cross-entropy applies it. Class weights and
    label smoothing shape the training only; `val/loss` and `test/loss` are the plain cross-entropy, so that they
    compare between runs. With both, the term of each class in the smoothed sum is multiplied by that class's own
    weight, and the sum is divided by the weights of the target classes. A `loss` of one's own is used in every split
    as it is.

    Args:
        num_classes: Number of classes C; labels are 0 to C - 1. From the data.
        class_weights: Weight of each class in the training loss, C numbers, or `balanced`: N / (C x samples of the
            class), counted over the training labels. The mean is over the weights of the batches of all processes.
        label_smoothing: Share of the target's probability that is spread evenly over all classes (Szegedy et al.,
            2016).
        loss: Class of a loss of logits (B, C) and labels (B,), such as torch.nn.MultiMarginLoss, in the place of the
            cross-entropy, its weights and its smoothing.
        metrics: Classes of torchmetrics that are logged beside `acc`, by their names in snake case without
            `Multiclass`: `val/f1_score` of MulticlassF1Score. Their `num_classes` is filled in.
        kwargs: `input_shape`, `optimizer`, `lr_scheduler` and `lr_interval`, as for every task.
    """

    def __init__(
        self,
        num_classes: int,
        class_weights: list[float] | Literal["balanced"] | None = None,
        label_smoothing: float = 0.0,
        loss: LossFactory | None = None,
        metrics: Sequence[MetricFactory] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_classes is None:  # the command line passes what the data have
            raise UserError(f"{type(self).__name__} needs class labels (num_classes), and its data have none")
        self.num_classes = num_classes
        self.class_weights = class_weights
        self.label_smoothing = label_smoothing
        self._weight: Tensor | None = None
        if loss is not None and (class_weights is not None or label_smoothing):
            raise UserError(
                "class_weights and label_smoothing belong to the task's own cross-entropy: leave them out, or the loss"
            )
        self.set_objectives(loss, metrics)

    def on_fit_start(self) -> None:
        """Turn `class_weights` into a tensor on the device.

        Raises:
            UserError: There are not as many weights as classes, or a class without samples, or data whose labels are
                not known, are to be balanced.
        """
        if self.class_weights is None:
            return
        if self.class_weights == "balanced":
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            if not hasattr(getattr(data, "train_set", None), "labels"):
                raise UserError(
                    f"class_weights balanced counts the labels of train_set, and {type(data).__name__} has none: give "
                    f"{self.num_classes} numbers"
                )
            counts = data.train_set.labels.bincount(minlength=self.num_classes)
            if not counts.all():
                raise UserError(f"class_weights balanced: class {int(counts.argmin())} has no training sample")
            weight = counts.sum() / (self.num_classes * counts)
        else:
            weight = torch.tensor(self.class_weights)
        if len(weight) != self.num_classes:
            raise UserError(f"class_weights has {len(weight)} numbers, but there are {self.num_classes} classes")
        self._weight = weight.to(self.device)

    def example(self) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and labels (B,)."""
        samples = 4 + (self.num_classes == 4)  # never C, or a loss that wants targets (B, C) would broadcast labels
        logits = torch.linspace(0, 1, samples * self.num_classes).reshape(samples, self.num_classes)
        return logits, torch.arange(samples) % self.num_classes

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the cross-entropy of logits (B, C) and labels (B,), in nats, or the loss that was given."""
        if self.loss_function is not None:
            loss: Tensor = self.loss_function(output, y)
            return loss
        if not self.training:
            return F.cross_entropy(output, y)
        options: dict[str, Any] = {"weight": self._weight, "label_smoothing": self.label_smoothing}
        if self._weight is None or not (distributed.is_available() and distributed.is_initialized()):
            return F.cross_entropy(output, y, **options)
        # DDP takes the mean of the ranks' gradients: that of these losses is the mean over the weights of all samples
        total = self._weight[y].sum()
        distributed.all_reduce(total)
        return F.cross_entropy(output, y, reduction="sum", **options) * distributed.get_world_size() / total

    def make_metrics(self) -> dict[str, Metric]:
        """Return the accuracy: right guesses over all samples."""
        return {"acc": MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)}

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Return the likeliest `class` (B,) and its `probability` (B,)."""
        x = batch if isinstance(batch, Tensor) else batch[0]
        probability, label = self(x).float().softmax(dim=1).max(dim=1)
        return {"class": label, "probability": probability}


class Regressor(Task):
    """Regression with the mean squared error.

    Args:
        out_features: Number of values to predict; from the data.
        loss: Class of a loss of outputs and targets (B, out_features), such as torch.nn.HuberLoss, in the place of the
            mean squared error, in every split.
        metrics: Classes of torchmetrics that are logged beside `mae`, by their names in snake case: `val/r2_score` of
            R2Score. They are given (B,) where `out_features` is 1.
        kwargs: `input_shape`, `optimizer`, `lr_scheduler` and `lr_interval`, as for every task.
    """

    def __init__(
        self,
        out_features: int,
        loss: LossFactory | None = None,
        metrics: Sequence[MetricFactory] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if out_features is None:  # the command line passes what the data have
            raise UserError(f"{type(self).__name__} needs real targets (out_features), and its data have none")
        self.out_features = out_features
        self.set_objectives(loss, metrics)

    def example(self) -> tuple[Tensor, Tensor]:
        """Return outputs and targets (B, out_features), all above 0, as some metrics want them."""
        output = torch.linspace(0.1, 0.9, 4 * self.out_features).reshape(4, self.out_features)
        return output, output.flip(0)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean squared error over the batch and all (B, out_features) values, or the loss that was given.

        Raises:
            UserError: The target is of another shape, and torch would broadcast the two.
        """
        if output.shape != y.shape:
            raise UserError(
                f"targets {tuple(y.shape)} do not fit outputs {tuple(output.shape)}: give (B, out_features)"
            )
        if self.loss_function is not None:
            loss: Tensor = self.loss_function(output, y)
            return loss
        return F.mse_loss(output, y)

    def make_metrics(self) -> dict[str, Metric]:
        """Return the mean absolute error, in the target's unit."""
        return {"mae": MeanAbsoluteError()}

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Return the predicted values, `y0`, `y1`, ... each (B,)."""
        x = batch if isinstance(batch, Tensor) else batch[0]
        return {f"y{i}": column for i, column in enumerate(self(x).float().unbind(dim=1))}


class NetworkClassifier(Classifier):
    """A classifier around any network of your own.

    Args:
        network: Maps (B, *input_shape) to logits (B, num_classes). In YAML a `class_path` with `init_args`.
        kwargs: The arguments of `Classifier`.
    """

    def __init__(self, network: nn.Module, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network


def _plain(value: Any) -> Any:
    """Turn classes, and partials of classes, into the names and arguments that a YAML file would hold."""
    if isinstance(value, partial):
        return {"class_path": _plain(value.func), "init_args": value.keywords}
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
