"""Decide whether a run may be resumed, given what has changed since its checkpoint."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule

from leyden.errors import UserError
from leyden.models.weight_files import check_fit
from leyden.runs.flat_config import different_options, flat
from leyden.runs.metrics import read_rows

LIMITS = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.min_epochs", "trainer.min_steps")
FIXED_WITHIN_EPOCH = (  # what decides which samples a batch has, and what the metrics of an epoch sum up
    "seed_everything",
    "data.class_path",
    "data.batch_size",
    "data.val_size",
    "data.split_seed",
    "data.fold",  # and data.folds
    "data.stratify",
    "data.sampler",
    "data.drop_last",
    "trainer.limit_train_batches",
    "trainer.accumulate_grad_batches",
    "model.loss",
    "model.metrics",
)
NOT_COMPARED = (
    "name",
    "checkpoint",
    "trainer.default_root_dir",
    "trainer.logger",
    "trainer.callbacks",
    "trainer.plugins",
)


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {option: (old value, new value)} of two configurations, with options as on the command line."""
    pairs = different_options(flat(old), flat(new))
    return {option: (pair[0], pair[1]) for option, pair in pairs.items() if not option.startswith(NOT_COMPARED)}


def is_finished(
    checkpoint: dict[str, Any], changes: dict[str, tuple[Any, Any]], record: dict[str, Any] | None = None
) -> bool:
    """Return whether a run has ended its training, and no limit or callback that may have ended it has changed."""
    config = checkpoint.get("config", {})
    callbacks = [c.get("trainer", {}).get("callbacks") for c in (config, record or config)]
    raised = any(option in LIMITS for option in changes) or callbacks[0] != callbacks[1]
    return bool(checkpoint.get("finished")) and not raised


def is_untested(
    checkpoint: dict[str, Any], changes: dict[str, tuple[Any, Any]], record: dict[str, Any], metrics: Path
) -> bool:
    """Return whether a run has ended its training, but not the test after it, by the rows of its `metrics.csv`."""
    if not is_finished(checkpoint, changes, record) or not metrics.exists():
        return False
    return not any(name.startswith("test") for row in read_rows(metrics).values() for name in row)


def limits_to_raise(config: dict[str, Any], epoch: int, step: int) -> str:
    """Name what ended a run, and what to raise to continue it: a limit of the Trainer, or else a callback.

    Args:
        config: The run's configuration.
        epoch: Number of complete epochs.
        step: Number of optimizer steps.
    """
    trainer = config.get("trainer", {})
    max_epochs, max_steps = trainer.get("max_epochs"), trainer.get("max_steps", -1)
    if max_epochs is not None and 0 <= max_epochs <= epoch:
        return "--trainer.max_epochs"
    if 0 <= max_steps <= step:
        return "--trainer.max_steps"
    if trainer.get("max_time") is not None:
        return "--trainer.max_time"
    callbacks = trainer.get("callbacks") or []
    names = [c["class_path"].rpartition(".")[2] for c in (callbacks if isinstance(callbacks, list) else [callbacks])]
    stopping = {"Timer": "the duration of its Timer", "EarlyStopping": "the patience of its EarlyStopping"}
    found = [text for name, text in stopping.items() if name in names]
    return f"{' or '.join(found)} (in trainer.callbacks)" if found else "--trainer.max_epochs"


def check_resumable(
    checkpoint: dict[str, Any],
    changes: dict[str, tuple[Any, Any]],
    record: dict[str, Any] | None = None,
    untested: bool = False,
) -> None:
    """Refuse to resume a run that cannot continue as requested.

    Args:
        checkpoint: Where the run resumes.
        changes: {option: (old value, new value)}, without the callbacks.
        record: The configuration of the resumed run; None for the one in the checkpoint.
        untested: Whether a finished run is resumed only to be tested.

    Raises:
        UserError: The run is finished, the file has no optimizer state, or a change does not fit the saved state.
    """
    if "optimizer_states" not in checkpoint:
        raise UserError("this checkpoint holds no state of an optimizer, so training cannot go on from it")
    if is_finished(checkpoint, changes, record) and not untested:
        config = checkpoint.get("config", {})
        raise UserError(
            f"this run is finished, at epoch {checkpoint['epoch']} and step {checkpoint['global_step']}: "
            "test it with `leyden test`, or raise "
            f"{limits_to_raise(config, checkpoint['epoch'], checkpoint['global_step'])} to go on"
        )
    for option, (old, new) in changes.items():
        if option == "model.class_path" or option == "model.optimizer.class_path":
            raise UserError(f"{option} was {old}, now {new}: that cannot go on from the other's state; start a new run")
        if option == "model.init_from":
            raise UserError(f"{option} was {old}, now {new}: a resumed run has its weights; leave it out")
        if option.startswith("model.lr_scheduler"):
            raise UserError(f"{option} was {old}, now {new}: a schedule under way goes on as it is; start a new run")
        if option.startswith(FIXED_WITHIN_EPOCH) and checkpoint.get("batches_done"):
            raise UserError(f"{option} was {old}, now {new}: it cannot change in the middle of an epoch")


def check_weights_fit(checkpoint: dict[str, Any], model: LightningModule) -> None:
    """Compare the names and shapes of a checkpoint's weights with the model's.

    Raises:
        UserError: They differ; the first few are named.
    """
    title = f"the checkpoint's weights do not fit {type(model).__name__}"
    fix = "; give the model the arguments it was trained with"
    check_fit(checkpoint["state_dict"], model.state_dict(), title, fix)
