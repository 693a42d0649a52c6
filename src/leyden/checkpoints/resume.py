"""What a resumed run may do otherwise than the run before, and how it is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from leyden.errors import UserError
from leyden.runs.flat_config import flat
from leyden.runs.metrics import read_rows

LIMITS = ("trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "trainer.min_epochs", "trainer.min_steps")
ORDER = (  # what decides which samples a batch holds, and what an epoch adds up
    "seed_everything",
    "data.class_path",
    "data.batch_size",
    "data.val_size",
    "data.split_seed",
    "data.stratify",
    "data.sampler",
    "data.drop_last",
    "trainer.limit_train_batches",
    "trainer.accumulate_grad_batches",
    "model.loss",
    "model.metrics",
)
ELSEWHERE = ("name", "checkpoint", "trainer.default_root_dir", "trainer.logger", "trainer.callbacks", "trainer.plugins")


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {option: (old value, new value)} of two configurations; options go as on the command line."""
    before, after = flat(old), flat(new)
    options = [option for option in dict.fromkeys([*before, *after]) if not option.startswith(ELSEWHERE)]
    pairs = {option: (before.get(option), after.get(option)) for option in options}
    return {option: pair for option, pair in pairs.items() if pair[0] != pair[1]}


def check_places(config: dict[str, Any], remembered: dict[str, Any], flags: list[str], files: list[str]) -> None:
    """Refuse a checkpoint from elsewhere whose own configuration would have files written outside of the run.

    Args:
        config: The trainer's part of the configuration, before the run's directory is filled in.
        remembered: The same part of the checkpoint's configuration.
        flags: The user's own flags; a path in one is the user's choice.
        files: Each --config; a path in one is the user's choice as well.

    Raises:
        UserError: It would; each place is named.
    """
    texts = [flag.partition("=")[2] if flag.startswith("-") else flag for flag in flags]
    texts += [Path(file).read_text(encoding="utf-8") if "{" not in file else file for file in files]  # or it is JSON
    chosen = {value for text in texts for _, value in _strings(_yaml(text))}
    theirs = {value for _, value in _strings(remembered)} - chosen
    places = [f"{key} {value}" for key, value in _strings(config) if value in theirs and _is_place(key, value)]
    if places:
        raise UserError(
            f"the checkpoint is from elsewhere, and its configuration would write outside of the run: "
            f"{', '.join(places)}; give the same in a --config of your own to allow that, or give others"
        )


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _strings(value: Any, key: str = "trainer") -> Iterator[tuple[str, str]]:
    """Yield each text in a nested configuration with its dotted key; a class stands by its name in that."""
    if isinstance(value, dict):
        key += f".{value['class_path'].rpartition('.')[2]}" if isinstance(value.get("class_path"), str) else ""
        for name, part in value.items():
            yield from _strings(part, key if name == "init_args" else f"{key}.{name}")
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part, key)
    elif isinstance(value, str):
        yield key, value


def _is_place(key: str, value: str) -> bool:
    """Say whether an option of the trainer names a folder, a file outside of the run, or an address."""
    if key.endswith("class_path"):
        return False
    names_folder = value != "" and key.endswith(("dir", "directory", "folder", "path"))
    return names_folder or value.startswith(("/", "~", "file:")) or "://" in value or ".." in Path(value).parts


def is_untested(
    checkpoint: dict[str, Any], changes: dict[str, tuple[Any, Any]], record: dict[str, Any], metrics: Path
) -> bool:
    """Say whether a run has ended its training, but not the test that follows, by the rows of its `metrics.csv`."""
    if not is_finished(checkpoint, changes, record) or not metrics.exists():
        return False
    return not any(name.startswith("test") for row in read_rows(metrics).values() for name in row)


def is_finished(
    checkpoint: dict[str, Any], changes: dict[str, tuple[Any, Any]], record: dict[str, Any] | None = None
) -> bool:
    """Say whether a run has ended its training and is not asked for more."""
    config = checkpoint.get("config", {})
    callbacks = [c.get("trainer", {}).get("callbacks") for c in (config, record or config)]
    raised = any(option in LIMITS for option in changes) or callbacks[0] != callbacks[1]  # one may have ended the run
    return bool(checkpoint.get("finished")) and not raised


def limits_to_raise(config: dict[str, Any], epoch: int, step: int) -> str:
    """Say what ended a run, so that raising it lets the run go on: a limit of the Trainer, or else a callback.

    Args:
        config: The run's configuration.
        epoch: Number of epochs that are complete.
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
    test_is_left: bool = False,
) -> None:
    """Refuse to resume what cannot go on as asked.

    Args:
        checkpoint: Where the run goes on.
        changes: {option: (old value, new value)}, without the callbacks.
        record: The configuration of the run that goes on; None for the one that the checkpoint holds.
        test_is_left: Whether a finished run has still to be tested.

    Raises:
        UserError: The run is finished, the file lacks what training needs, or a change does not fit what it holds.
    """
    if "optimizer_states" not in checkpoint:
        raise UserError("this checkpoint holds no state of an optimizer, so training cannot go on from it")
    if is_finished(checkpoint, changes, record) and not test_is_left:
        config = checkpoint.get("config", {})
        raise UserError(
            f"this run is finished, at epoch {checkpoint['epoch']} and step {checkpoint['global_step']}: "
            "test it with `leyden test`, or raise "
            f"{limits_to_raise(config, checkpoint['epoch'], checkpoint['global_step'])} to go on"
        )
    for option, (old, new) in changes.items():
        if option == "model.class_path" or option == "model.optimizer.class_path":
            raise UserError(f"{option} was {old}, now {new}: that cannot go on from the other's state; start a new run")
        if option.startswith("model.lr_scheduler"):
            raise UserError(f"{option} was {old}, now {new}: a schedule under way goes on as it is; start a new run")
        if option.startswith(ORDER) and checkpoint.get("batches_done"):
            raise UserError(f"{option} was {old}, now {new}: it cannot change in the middle of an epoch")


def check_weights_fit(checkpoint: dict[str, Any], model: LightningModule) -> None:
    """Compare the names and shapes of a checkpoint's weights with the model's.

    Raises:
        UserError: They differ; the first few are named.
    """
    held = {name: tuple(weight.shape) for name, weight in checkpoint["state_dict"].items()}
    wanted = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    wrong = [
        f"{name} {held.get(name)} for {wanted.get(name)}"
        for name in {**wanted, **held}
        if held.get(name) != wanted.get(name)
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(
            f"the checkpoint's weights do not fit {type(model).__name__}: {'; '.join(wrong[:3])}{more} "
            "(None: missing); give the model the arguments it was trained with"
        )


class ChangedOptimizer(Callback):
    """Give a resumed optimizer the arguments that its user has changed, instead of those it was saved with.

    A new learning rate scales the rate that a schedule has reached. The optimizer's state takes the memory order of the
    weights, which the overlay `channels_last` may have changed.

    Args:
        changes: {option: (old value, new value)}.
    """

    def __init__(self, changes: dict[str, tuple[Any, Any]]) -> None:
        prefix = "model.optimizer."
        self.changes = {key.removeprefix(prefix): pair for key, pair in changes.items() if key.startswith(prefix)}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Change them."""
        old, new = self.changes.pop("lr", (1.0, 1.0))
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group |= {name: value for name, (_, value) in self.changes.items()}
                group |= {name: group[name] * new / old for name in ("lr", "initial_lr") if name in group}
        for config in trainer.lr_scheduler_configs:
            if hasattr(config.scheduler, "base_lrs"):
                config.scheduler.base_lrs = [lr * new / old for lr in config.scheduler.base_lrs]
        for optimizer in trainer.optimizers:
            if self.changes:
                optimizer.load_state_dict(optimizer.state_dict())  # `step` moves to the device where fused wants it
            for weight, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                        # torch's fused kernels on a CPU go through memory as it is, and pair the wrong numbers
                        state[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
