"""What can be refused before any training time is spent, and before other processes are started.

Nothing here moves a random state or changes the model, so a run is the same to the bit with and without.
"""

import inspect
import logging
import math
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Checkpoint, GradientAccumulationScheduler
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.seed import isolate_rng
from torch.distributed.constants import default_pg_timeout
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from leyden.callbacks.monitored_scores import check_names, monitors
from leyden.checkpoints.last_checkpoint import LastCheckpoint
from leyden.cli.messages import reason
from leyden.data.datamodules import ArrayDataModule, ImageDataModule
from leyden.errors import UserError
from leyden.models.lr_schedules import follows_run, given_length, length_argument, length_in_run
from leyden.models.task import Task
from leyden.models.tasks import Regressor

Loader = DataLoader[Any]
log = logging.getLogger(__name__)


def check_model_fits_data(model: LightningModule, data: LightningDataModule) -> None:
    """Send two blank samples of the data's shape through the model, and look for a layer of no width.

    A model that says its own `output_shape`, of one sample, is sent its `example_input_array` instead. A DataModule
    that does not say its `input_shape` and `num_classes` or `out_features` is not checked.

    Raises:
        UserError: The network cannot take the input, or its output does not fit the target.
    """
    for name, parameter in model.named_parameters():
        if not isinstance(parameter, torch.nn.UninitializedParameter) and not parameter.numel():
            layer = name.removeprefix("network.").rpartition(".")[0]
            raise UserError(
                f"layer {layer} of {type(model).__name__} has no width, its weights are of shape "
                f"{tuple(parameter.shape)}: give every layer 1 unit or more"
            )
    input_shape = getattr(data, "input_shape", None)
    outputs = getattr(data, "num_classes", None) or getattr(data, "out_features", None)
    if input_shape is None or outputs is None:
        return
    x: Any = torch.zeros(2, *input_shape)
    wanted: Any = (outputs,)
    if hasattr(model, "output_shape"):  # its input is not a sample as it comes
        x, wanted = model.example_input_array, model.output_shape
    pair = f"{type(model).__name__} does not fit {type(data).__name__}"
    training = model.training
    model.eval()  # batch-norm's statistics and the random generator stay untouched
    try:
        with torch.no_grad():
            output = model(x)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{pair}: one sample is {tuple(input_shape)}, and the network says: {reason}") from error
    finally:
        model.train(training)
    _check_tensor(model, output)
    if output.shape != (len(x), *wanted):
        raise UserError(f"{pair}: the network's output is {tuple(output.shape[1:])}, the target wants {wanted}")


def _check_tensor(model: LightningModule, output: Any) -> None:
    if not isinstance(output, torch.Tensor):
        raise UserError(
            f"the network of {type(model).__name__} returns {type(output).__name__}, and must return one tensor; "
            "GoogLeNet and Inception of torchvision do with aux_logits: false"
        )


def check_hardware(trainer: Trainer, precision: Any) -> None:
    """Refuse more CPU processes than cores, and a precision that cannot be had.

    Args:
        trainer: The Trainer, before it starts anything.
        precision: What it was asked for; it silently replaces what it cannot do.

    Raises:
        UserError: There is something to refuse.
    """
    true = ("16-true", "bf16-true", "64-true", "64")
    if wrong := next((name for name in (str(precision), trainer.precision_plugin.precision) if name in true), None):
        raise UserError(f"--trainer.precision {wrong}: inputs are of 32 bits here, take 32-true or bf16-mixed")
    if not isinstance(trainer.accelerator, CPUAccelerator):
        return
    if str(precision) in ("16", "16-mixed"):
        raise UserError(f"--trainer.precision {precision} needs a GPU; a CPU has 32-true and bf16-mixed")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if trainer.num_devices > max(cores, 2):  # two can be tried on any machine
        raise UserError(
            f"--trainer.devices {trainer.num_devices} would start as many processes, but there are {cores} cores: "
            f"take at most {max(cores, 2)}"
        )


def announce_nodes(trainer: Trainer) -> None:
    """Say what a run on several nodes waits for before it starts, where, and for how long.

    Raises:
        UserError: Nobody said at which port the nodes meet, so each would wait for the others at one of its own.
    """
    if trainer.num_nodes == 1:
        return
    environment = trainer.strategy.cluster_environment  # type: ignore[attr-defined]
    if isinstance(environment, LightningEnvironment) and "MASTER_PORT" not in os.environ:
        raise UserError(
            f"--trainer.num_nodes {trainer.num_nodes}, but nothing says where they meet: on each node set MASTER_ADDR, "
            "MASTER_PORT and NODE_RANK (0, 1, ...), or start it by torchrun or srun"
        )
    if trainer.local_rank == 0:
        # no public name; None lets torch choose
        timeout = getattr(trainer.strategy, "_timeout", None) or default_pg_timeout
        print(
            f"node {trainer.node_rank} waits at {environment.main_address}:{environment.main_port} until "
            f"{trainer.num_nodes} nodes are there (--trainer.num_nodes), {timeout} (hours:minutes:seconds) at most",
            flush=True,
        )


def check_evaluation(trainer: Trainer, model: LightningModule, data: LightningDataModule | None, split: str) -> None:
    """Refuse to evaluate no batch at all.

    Args:
        trainer: The Trainer.
        model: The model.
        data: The data; None where the model has loaders of its own.
        split: `val`, `test` or `predict`.

    Raises:
        UserError: The split's limit is 0, or the model or the data lack what it needs.
    """
    if getattr(trainer, f"limit_{split}_batches") == 0:
        raise UserError(f"--trainer.limit_{split}_batches is 0, so there is nothing to do: leave it out")
    if missing := missing_for(model, data, split):
        raise UserError(f"{missing}, so there is nothing to {'validate' if split == 'val' else split}")


def missing_for(model: LightningModule, data: LightningDataModule | None, split: str) -> str:
    """Return what the model or the data lack to evaluate a split, `val`, `test` or `predict`; empty for nothing."""
    step = "validation_step" if split == "val" else f"{split}_step"
    if not is_overridden(step, model) and not (split == "predict" and is_overridden("forward", model)):
        return f"{type(model).__name__} has no {step}"
    if not any(is_overridden(f"{split}_dataloader", source) for source in (data, model)):
        return f"{type(data or model).__name__} has no {split}_dataloader"
    return ""


def check_fit(trainer: Trainer, model: LightningModule, data: LightningDataModule, directory: Path) -> None:
    """Refuse a training run that could not start, or would end before its end.

    The samples are looked at only of an `ArrayDataModule` that has no `prepare_data` of its own, the batch only with a
    `Task`, on the device where the model was made. Later epochs may draw other samples; the sampler checks these.

    Args:
        trainer: The Trainer, before `fit`.
        model: The model, still on the device where it was made.
        data: The data.
        directory: The run's directory.

    Raises:
        UserError: There is something to refuse; the message says how to mend it.
    """
    for option in ("max_epochs", "max_steps"):
        if getattr(trainer, option) == 0:
            raise UserError(f"--trainer.{option} is 0: no step would be trained")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"{type(model).__name__} has no parameter to train")
    _check_monitors(trainer, model)
    _check_disk(trainer, model, directory)
    if not isinstance(data, ArrayDataModule) or type(data).prepare_data is not LightningDataModule.prepare_data:
        _check_optimizer(trainer, model)
        return
    data.trainer = trainer  # as in `fit`: its device and number of processes matter
    data.setup("fit")  # `fit` calls it again, which does nothing
    with isolate_rng(include_cuda=False):
        train, val = data.train_dataloader(), data.val_dataloader()
        _check_batches(trainer, len(train), len(val))
        batch = _first_samples(train, trainer)
        _check_optimizer(trainer, model, len(train))
        if isinstance(model, Task):
            _check_step(trainer, model, data, batch)
    data.trainer = None


def _check_monitors(trainer: Trainer, model: LightningModule) -> None:
    """Refuse to stop or to schedule by a misspelt score or by a validation that never runs.

    Where only a checkpoint is chosen by that, say that none is.
    """
    if isinstance(model, Task):
        check_names(trainer, model)
    every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
    if trainer.limit_val_batches == 0:
        why = "--trainer.limit_val_batches is 0"
    elif every is not None and epochs is not None and 0 < epochs < every:
        why = f"--trainer.check_val_every_n_epoch is {every}, after the last of {epochs} epochs"
    else:
        return
    for name, part, monitor in monitors(trainer, model):
        if not monitor.startswith("val"):
            continue
        if not isinstance(part, Checkpoint):
            raise UserError(f"{name} goes by {monitor}, but there is no validation: {why}")
        rank_zero_only(log.warning)("no validation (%s), so no checkpoint is chosen by %s", why, monitor)


def _check_optimizer(trainer: Trainer, model: LightningModule, batches: int | None = None) -> None:
    """Build optimizer and schedule as `configure_optimizers` does, and step the schedule to the run's end.

    Args:
        trainer: The Trainer.
        model: The model; one with a `configure_optimizers` of its own is not checked.
        batches: Training batches of an epoch; None where they are not known.

    Raises:
        UserError: Optimizer or schedule cannot be built, or the schedule cannot be stepped as often as the run will.
    """
    if not isinstance(model, Task) or type(model).configure_optimizers is not Task.configure_optimizers:
        return
    optimizer = model.optimizer(parameter for parameter in model.parameters() if parameter.requires_grad)
    if model.lr_scheduler is None:
        return
    steps = _schedule_steps(trainer, model.lr_interval, batches)
    if steps is None and length_argument(model.lr_scheduler) and follows_run(given_length(model.lr_scheduler)):
        return
    schedule = model.lr_scheduler(optimizer, **length_in_run(model.lr_scheduler, lambda: steps or math.inf))
    _say_what_is_overridden(optimizer, schedule)
    if isinstance(schedule, ReduceLROnPlateau):
        _check_plateau(trainer, model, schedule, batches)
    else:
        _check_steps(schedule, steps, getattr(model.lr_scheduler, "keywords", {}), model.lr_interval)


def _say_what_is_overridden(optimizer: Optimizer, schedule: LRScheduler) -> None:
    """Say which of the optimizer's own numbers a cyclic schedule does not use."""
    if not isinstance(schedule, (OneCycleLR, CyclicLR)):
        return
    cycled = ["lr"]
    if schedule.cycle_momentum:
        cycled.append("betas" if "betas" in optimizer.defaults else "momentum")
    parameters = inspect.signature(type(optimizer)).parameters
    given = [
        f"{name} {optimizer.defaults[name]}" for name in cycled if optimizer.defaults[name] != parameters[name].default
    ]
    if given:
        rank_zero_only(log.warning)(
            "%s sets %s itself: the optimizer's %s is not used",
            type(schedule).__name__,
            " and ".join(cycled),
            " and ".join(given),
        )


def _schedule_steps(trainer: Trainer, interval: str, batches: int | None) -> int | None:
    """Return how often a run steps its schedule, None where that is not known before it."""
    epochs = None if trainer.max_epochs in (None, -1) else trainer.max_epochs
    if interval == "epoch":
        return epochs
    changes = any(isinstance(c, GradientAccumulationScheduler) for c in trainer.callbacks)  # type: ignore[attr-defined]
    if batches is None or epochs is None or changes:
        return trainer.max_steps if trainer.max_steps > 0 else None
    steps = math.ceil(_limited(batches, trainer.limit_train_batches) / trainer.accumulate_grad_batches) * epochs
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def _check_steps(schedule: LRScheduler, steps: int | None, arguments: dict[str, Any], interval: str) -> None:
    """Refuse a schedule that raises at its first step, or at the run's last one; say where a cosine rises again."""
    if steps is not None and isinstance(schedule, CosineAnnealingLR) and schedule.T_max < steps:
        rank_zero_only(log.warning)(
            "CosineAnnealingLR(T_max=%d) falls for %d of %d %ss, then rises again: leave T_max out to end with the run",
            schedule.T_max,
            schedule.T_max,
            steps,
            interval,
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its optimizer is never stepped
            schedule.step()
            if steps is not None:
                schedule.last_epoch = steps - 1  # schedules count their steps by that name
                schedule.step()
    except Exception as error:
        needed = [p.name for p in inspect.signature(type(schedule)).parameters.values() if p.default is p.empty]
        given = ", ".join(f"{name}={arguments[name]}" for name in needed if name in arguments)
        length = f", but the run has {steps} {interval}s" if hasattr(schedule, "total_steps") else ""
        raise UserError(f"{type(schedule).__name__}({given}): {reason(error)}{length}") from error


def _check_plateau(trainer: Trainer, model: Task, schedule: ReduceLROnPlateau, batches: int | None) -> None:
    """Refuse a schedule whose score is not there when it is stepped."""
    monitor = getattr(schedule, "monitor", None)
    if monitor is None:
        raise UserError(
            "torch's ReduceLROnPlateau does not say by which score it goes: take lightning.pytorch.cli."
            "ReduceLROnPlateau, with --model.lr_scheduler.monitor val/loss"
        )
    if model.lr_interval == "step" and not monitor.endswith("_step"):
        raise UserError(f"ReduceLROnPlateau goes by {monitor}, which is of an epoch: set --model.lr_interval epoch")
    every = trainer.val_check_interval
    if trainer.check_val_every_n_epoch is None and batches is not None and monitor.startswith("val/"):
        batches = _limited(batches, trainer.limit_train_batches)
        if isinstance(every, int) and every > batches:
            raise UserError(
                f"ReduceLROnPlateau goes by {monitor} at the end of each epoch, but of {batches} batches there is none "
                f"with --trainer.val_check_interval {every}: set --trainer.val_check_interval {batches}"
            )


def _check_disk(trainer: Trainer, model: LightningModule, directory: Path) -> None:
    """Refuse a place that cannot be written, or has no room for the checkpoints.

    A file is taken to hold the weights and two numbers for each that is trained, as Adam keeps them.
    """
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    size += 2 * sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    needed: dict[int, int] = {}  # bytes by file system
    savers = (c for c in trainer.callbacks if isinstance(c, (Checkpoint, LastCheckpoint)))  # type: ignore[attr-defined]
    for callback in (None, *savers):
        folder = Path(getattr(callback, "dirpath", None) or directory).absolute()
        there = next(path for path in (folder, *folder.parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=there):
                free, device = shutil.disk_usage(there).free, there.stat().st_dev
        except OSError as error:
            raise UserError(
                f"cannot write to {folder} ({error.strerror}): choose another folder, with --trainer.default_root_dir "
                "or the checkpoint callback's dirpath"
            ) from error
        files = 1  # a file is complete before it takes the place of an older one
        if callback is not None:
            kept = getattr(callback, "save_top_k", 2)  # LastCheckpoint has two
            kept = max(trainer.max_epochs or 1, 1) if kept == -1 else kept
            files = kept + bool(getattr(callback, "save_last", None))
        needed[device] = needed.get(device, 0) + files * size
        if free + sum(file.stat().st_size for file in folder.rglob("*.ckpt")) < needed[device]:
            raise UserError(
                f"{there} has {free / 1e6:.1f} MB free, but the checkpoints may take {needed[device] / 1e6:.1f} MB: "
                "make room, or choose a folder with --trainer.default_root_dir"
            )


def _check_batches(trainer: Trainer, train: int, val: int) -> None:
    """Refuse limits that leave no batch, given how many there are."""
    for split, count in (("train", train), ("val", val)):
        limit = getattr(trainer, f"limit_{split}_batches")
        left = _limited(count, limit)
        if left == 0 and (split == "train" or limit > 0):  # 0 is how to switch validation off
            raise UserError(
                f"--trainer.limit_{split}_batches {limit} leaves none of {count} batches: raise it"
                + (f" to {math.ceil(1000 / count) / 1000} or more" if limit else "")
            )
        if split == "train":
            every = getattr(trainer, "val_check_interval", None)  # which Lightning leaves out where it is a time
            by_epoch = trainer.check_val_every_n_epoch is not None and trainer.limit_val_batches > 0
            if isinstance(every, int) and every > left and by_epoch:
                raise UserError(
                    f"--trainer.val_check_interval is {every}, but an epoch has {left} batches: lower it, or "
                    "set --trainer.check_val_every_n_epoch null to count on"
                )


def _limited(count: int, limit: float) -> int:
    """Return how many of `count` batches are left by one of the Trainer's limits."""
    return min(count, limit) if isinstance(limit, int) else int(count * limit)


def _first_samples(loader: Loader, trainer: Trainer) -> Any:
    """Return the first two training samples as a batch, or one where an epoch ends with a batch of one.

    The whole order is drawn for that, and every index in it checked.
    """
    indices = next(iter(loader.batch_sampler))  # type: ignore[arg-type]
    whole_epoch = trainer.limit_train_batches == 1.0 and trainer.max_steps == -1
    ends_with_one = not loader.drop_last and len(loader.sampler) % loader.batch_size == 1  # type: ignore
    indices = indices[: 1 if whole_epoch and ends_with_one else 2]
    return loader.dataset.__getitems__(indices)  # type: ignore[attr-defined]


def _check_step(trainer: Trainer, model: Task, data: LightningDataModule, batch: Any) -> None:
    """Take real samples through augmentation, normalisation, network and loss, as a training step does."""
    batch = data.transfer_batch_to_device(batch, model.device, 0)
    copies = {name: buffer.clone() for name, buffer in model.named_buffers()}  # batch-norm counts on these instead
    try:
        if type(data).on_after_batch_transfer is ImageDataModule.on_after_batch_transfer:
            batch = data.preprocess(batch, training=True)  # type: ignore[attr-defined]
        else:
            batch = data.on_after_batch_transfer(batch, 0)
        x, y = model.inputs_and_targets(*batch)
        with torch.no_grad(), torch.compiler.set_stance("force_eager"), trainer.precision_plugin.forward_context():
            output = torch.func.functional_call(model, copies, (x,))
            _check_tensor(model, output)  # some networks return more in training than in evaluation
            if isinstance(model, Regressor) and output.shape != y.shape:  # the loss would broadcast them
                raise ValueError(f"the output is {tuple(output.shape)}, the target {tuple(y.shape)}")
            loss = model.loss(output, y)
    except (RuntimeError, ValueError, IndexError) as error:
        reason, fix = str(error).partition("\n")[0], ""
        if "more than 1 value per channel" in reason:
            fix = ": an epoch ends with a batch of one sample, set --data.drop_last true or another batch_size"
        pair = f"{type(model).__name__} does not take a batch of {type(data).__name__}"
        raise UserError(f"{pair} ({reason}){fix}") from error
    if not loss.isfinite():
        raise UserError(
            f"the loss of the first training samples is {loss.item()} before any step: look for numbers that are not "
            "finite in the data or in the initial weights"
        )
