"""The base of all models: steps, metrics and the optimizer; `tasks.py` adds the loss."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from leyden.errors import UserError
from leyden.models.epoch_metrics import EpochMetrics
from leyden.models.logging_steps import is_logging_step
from leyden.models.lr_schedules import length_in_run, schedule_steps
from leyden.models.objectives import LossFactory, MetricFactory, build_loss, build_metrics, check_metrics, with_sizes
from leyden.models.stored_model import StoredModel

Batch = tuple[Tensor, Tensor]


class Task(StoredModel):
    """Training, validation and test steps around a `network`, whose loss and metrics a subclass defines.

    For each split, `<split>/loss` and the metrics are logged once an epoch, exact over all samples (also when the last
    batch is smaller, and over all ranks). `train/loss_step` is logged every `trainer.log_every_n_steps` steps.

    Args:
        input_shape: Shape of one sample without the batch dimension, (C, H, W) for images; from the data.
        optimizer: Optimizer class and its arguments; it gets the parameters that require a gradient.
        lr_scheduler: Learning-rate scheduler class and its arguments. Without `T_max`, `total_steps` or `total_iters`
            it ends with the run; 0.5 for one of them, or among `milestones`, is half of the run.
        lr_interval: Whether the scheduler is stepped once an epoch or after every optimizer step.
        init_from: Weights to start from: a checkpoint, the directory of a run (its best.ckpt), or a file with a
            state_dict of the model or of its network. The last layer may have another number of outputs, and is then
            new. Read once, when training starts; a checkpoint of the new run does not need the file again.
    """

    network: nn.Module

    def __init__(
        self,
        input_shape: tuple[int, ...],
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        init_from: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])  # includes the subclass's arguments
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.lr_interval = lr_interval
        self.init_from = init_from
        self.lr: float | None = None  # set by LearningRateFinder; None for the rate in `optimizer`
        self.example_input_array = torch.zeros(2, *input_shape)  # for the printed summary
        self.loss_function: nn.Module | None = None  # replaces the task's own loss
        self.extra_metrics: Sequence[Callable[[], Metric]] = ()  # logged beside the task's own
        # a plain dict: child modules would fill the printed summary
        self._metrics: dict[str, EpochMetrics] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch (B, *input_shape) to the network's output (B, num_classes) or (B, out_features)."""
        output: Tensor = self.network(x)
        return output

    def inputs_and_targets(self, x: Tensor, y: Tensor) -> Batch:
        """Turn a batch into the input of `forward` and the target of its output; unchanged by default."""
        return x, y

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar."""
        raise NotImplementedError

    def configure_metrics(self) -> dict[str, Metric]:
        """Return the task's own metrics of one split by name; each is updated with outputs and targets."""
        raise NotImplementedError

    def example_output_and_target(self) -> tuple[Tensor, Tensor]:
        """Return an example of the network's output and of its target, on which a loss and metrics are tried."""
        raise NotImplementedError

    def set_loss_and_metrics(self, loss: LossFactory | None, metrics: Sequence[MetricFactory]) -> None:
        """Replace the task's own loss, unless None is given, and add metrics.

        Raises:
            UserError: They do not fit the network's output and its target.
        """
        if loss is not None:
            self.loss_function = build_loss(loss, *self.example_output_and_target())
        if metrics:
            names = [*self.metric_names(), "loss_step"]
            self.extra_metrics = with_sizes(metrics, getattr(self, "num_classes", None))
            check_metrics(self.extra_metrics, names, *self.example_output_and_target())

    def metric_names(self) -> list[str]:
        """Return the names that are logged for every split, without the split: `loss`, `acc`, ..."""
        return ["loss", *self.configure_metrics(), *build_metrics(self.extra_metrics)]

    def metrics(self, split: str) -> dict[str, Metric]:
        """Return the metrics of `split` by name; after `flush_metrics` they include every batch of the epoch so far."""
        return self._epoch_metrics(split).metrics

    def update_metrics(self, split: str, output: Tensor, y: Tensor, loss: Tensor) -> None:
        """Add a batch to the metrics of `split`; the update may wait for further batches."""
        self._epoch_metrics(split).add(output, y, loss)

    def flush_metrics(self, split: str) -> None:
        """Update the metrics of `split` with the batches that wait."""
        self._epoch_metrics(split).flush()

    def training_metrics(self) -> dict[str, Metric]:
        """Return the metrics of the training epoch with all batches so far; checkpoints contain their states."""
        self.flush_metrics("train")
        return {f"train/{name}": metric for name, metric in self.metrics("train").items()}

    def _epoch_metrics(self, split: str) -> EpochMetrics:
        if split not in self._metrics:  # not earlier: the module was not on its device
            metrics = {
                "loss": MeanMetric(nan_strategy="disable"),
                **self.configure_metrics(),
                **build_metrics(self.extra_metrics),
            }
            self._metrics[split] = EpochMetrics(metrics, split, self.device)
        return self._metrics[split]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one training batch."""
        _, loss = self._step(batch, "train")
        if is_logging_step(self.trainer):
            self.log("train/loss_step", loss, sync_dist=True)  # the mean over the ranks: of the global batch
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Update the validation metrics."""
        self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Update the test metrics, and return the network's output for the callbacks."""
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
        except (TypeError, ValueError) as error:  # from a DataModule of other people
            kind = f"a {type(batch).__name__}" + (f" of {len(batch)}" if hasattr(batch, "__len__") else "")
            raise UserError(
                f"{type(self).__name__} takes batches of two, inputs and targets, and the data give {kind} ({error}): "
                "let their collate_fn make pairs, or override inputs_and_targets"
            ) from error
        output = self(x)
        loss = self.loss(output, y)
        self.update_metrics(split, output, y, loss)
        return output, loss

    def _log_epoch(self, split: str) -> None:
        for name, value in self._epoch_metrics(split).compute().items():
            # all ranks have the same value already; sync_dist averages them and avoids a warning
            self.log(f"{split}/{name}", value, prog_bar=split == "val", sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Build the optimizer of the trainable parameters, and its scheduler."""
        overrides = {} if self.lr is None else {"lr": self.lr}
        optimizer = self.optimizer((p for p in self.parameters() if p.requires_grad), **overrides)
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer, **length_in_run(self.lr_scheduler, self.schedule_steps))
        monitor = getattr(scheduler, "monitor", None)
        config = {"scheduler": scheduler, "interval": self.lr_interval, "monitor": monitor}
        if monitor is not None and monitor.startswith("val/"):  # which exists after a validation only
            config["frequency"] = self.trainer.check_val_every_n_epoch or 1
        return {"optimizer": optimizer, "lr_scheduler": config}

    def schedule_steps(self) -> float:
        """Return how often the whole run steps its scheduler; infinite or negative if that is unknown."""
        return schedule_steps(self.trainer, self.lr_interval)
