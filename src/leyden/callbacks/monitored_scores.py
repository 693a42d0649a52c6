"""Check and choose the scores that best.ckpt, early stopping and learning-rate schedules monitor."""

import logging
import re
from collections.abc import Collection, Iterator
from difflib import SequenceMatcher, get_close_matches
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from leyden.errors import RunError, UserError
from leyden.models.task import Task
from leyden.runs.run_config import RunConfig

log = logging.getLogger(__name__)
DEFAULT = "val/loss"  # monitored by best.ckpt in configs/defaults.yaml
SIMILAR = 0.8  # ratio of difflib: `val_loss` and `val/loss` have 0.875, `val/acc` and `val/acc_best` 0.74
LOWER = {"loss", "error", "err", "mse", "mae", "rmse", "nll", "perplexity", "ppl", "wer", "cer", "fid"}
HIGHER = {"acc", "accuracy", "auc", "auroc", "ap", "map", "f1", "iou", "miou", "dice", "jaccard", "precision", "recall"}
HIGHER |= {"psnr", "ssim", "bleu", "r2"}
# messages of ModelCheckpoint, EarlyStopping and Lightning's training loop about a name that was not logged
NOT_LOGGED = re.compile(r"(\w+)\(monitor='(.+?)'\)`? could not find|(\w+) conditioned on metric `?([^\s`]+)`?")


def mode_of(monitor: str) -> str | None:
    """Return `min` or `max` if a score's name says which is better, else None."""
    words = set(re.split(r"[\W_]+", monitor.lower()))
    return "min" if words & LOWER else "max" if words & HIGHER else None


def monitors(trainer: Trainer, model: LightningModule) -> Iterator[tuple[str, Any, str]]:
    """Yield (its name, itself, the score) of each callback and schedule that requires a score."""
    parts: list[tuple[str, Any]] = [(type(callback).__name__, callback) for callback in trainer.callbacks]  # type: ignore[attr-defined]
    parts += [("the schedule", config) for config in trainer.lr_scheduler_configs if config.reduce_on_plateau]
    if isinstance(model, Task) and not trainer.lr_scheduler_configs:  # they are created when training starts
        parts.append(("the schedule", model.lr_scheduler))
    for name, part in parts:
        monitor = getattr(part, "monitor", None) or getattr(part, "keywords", {}).get("monitor")
        if isinstance(monitor, str) and getattr(part, "strict", True):
            yield name, part, monitor


def check_names(trainer: Trainer, model: Task) -> None:
    """Refuse a misspelt score. Only names similar to what a task logs are, as callbacks may log other scores.

    Raises:
        UserError: A name is similar to one that is logged, or is a test score.
    """
    logged = {"train/loss_step", *(f"{split}/{name}" for split in ("train", "val") for name in model.metric_names())}
    for who, _, monitor in monitors(trainer, model):
        if monitor.startswith("test/"):
            raise UserError(
                f"{who} monitors {monitor}: a test score that was used to choose something is too optimistic, so none "
                f"is logged before the end; use val/{monitor.removeprefix('test/')}"
            )
        if monitor not in logged and get_close_matches(monitor, logged, 1, SIMILAR):
            raise UserError(_not_logged(who, monitor, logged))


def monitor_fault(error: Exception) -> RunError | None:
    """Return a one-line error for Lightning's error about a score that was not logged, None for any other error."""
    found = NOT_LOGGED.search(str(error))
    if found is None:
        return None
    who, monitor = found[1] or found[3].replace("stopping", "EarlyStopping"), found[2] or found[4]
    text = str(error)[found.end() :].partition("HINT")[0]
    logged = set(re.findall(r"[`'](.+?)[`']", text)) - {"EarlyStopping", "monitor"}
    return RunError(f"{_not_logged(who, monitor, logged)}; correct it and go on with --ckpt_path last")


def _not_logged(who: str, monitor: str, logged: Collection[str]) -> str:
    near = get_close_matches(monitor, sorted(logged), 1, SIMILAR)
    hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(sorted(logged)) or 'none'}"
    return f"{who} monitors `{monitor}`, which is not logged ({hint})"


class MonitoredScores(Callback):
    """Make best.ckpt monitor a score that is logged, and refuse names that are not logged.

    For a module that logs no `val/loss`, a score is chosen from what its validation logs: the loss with the most
    similar name, else the first score whose name says that higher is better; if there is none, best.ckpt is the newest
    epoch's. The choice is printed and recorded in the configuration. `--monitor` makes it explicitly.

    The logged names are those of the validation that Lightning runs before the first step (`num_sanity_val_steps`), or
    else of the first validation after it.

    Args:
        run_config: The callback that records the configuration.
    """

    def __init__(self, run_config: RunConfig) -> None:
        self.run_config = run_config
        self.chosen = run_config.config.get("monitor") is not None
        self._logged_before: set[str] = set()
        self._epoch_ended = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose no score if there is no validation."""
        if not trainer.enable_validation and trainer.limit_val_batches > 0:  # 0 was chosen by the user
            self._choose(trainer, set())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that training has logged all its scores."""
        self._epoch_ended = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the scores of the first epoch, after it was saved."""
        self._check_training(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the scores of the only epoch, after it was saved."""
        self._check_training(trainer, pl_module)

    def _check_training(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check ModelCheckpoint if there is no validation: it would only warn and save nothing.

        Raises:
            RunError: It monitors a score that was not logged.
        """
        if not self._epoch_ended or trainer.enable_validation:
            return
        self._epoch_ended = False
        logged = set(trainer.callback_metrics)
        for who, part, monitor in monitors(trainer, pl_module):
            switched_off = trainer.limit_val_batches == 0 and monitor.startswith("val")  # preflight has warned
            if isinstance(part, ModelCheckpoint) and monitor not in {*logged, "epoch", "step"} and not switched_off:
                raise RunError(_not_logged(who, monitor, logged))

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose a score, and check all names of validation scores.

        Raises:
            UserError: There is no such score.
        """
        logged = set(trainer.callback_metrics)
        nothing_to_validate = sum(trainer.num_val_batches) == 0
        if not logged and not nothing_to_validate:
            return  # a module may log nothing in this check
        self._choose(trainer, logged)
        for who, _, monitor in monitors(trainer, pl_module):
            if not monitor.startswith("val") or monitor in logged or not logged:
                continue
            text = _not_logged(who, monitor, logged)
            if isinstance(pl_module, Task) or get_close_matches(monitor, logged, 1, SIMILAR):
                raise UserError(f"{text}; for one that is logged later, set --trainer.num_sanity_val_steps 0")
            rank_zero_only(log.warning)("%s (in the validation before the first step)", text)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember what was logged before the validation."""
        if not self.chosen:
            self._logged_before = set(trainer.callback_metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose a score if there is none yet; ModelCheckpoint reads it after this hook."""
        if not self.chosen and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._choose(trainer, set(trainer.callback_metrics) - self._logged_before)

    def _choose(self, trainer: Trainer, logged: set[str]) -> None:
        """Choose the score of each ModelCheckpoint that monitors a `val/loss` which is not logged."""
        callbacks = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor == DEFAULT]
        if self.chosen or DEFAULT in logged or not callbacks:
            self.chosen = True
            return
        self.chosen = True
        names = sorted(name for name in logged if not name.endswith("_step"))
        losses = [name for name in names if mode_of(name) == "min"]
        others = [name for name in names if mode_of(name) == "max"]
        monitor = max(losses, key=lambda name: SequenceMatcher(None, DEFAULT, name).ratio(), default=None)
        monitor = monitor or next(iter(others), None)
        mode = "max" if monitor in others else "min"
        for callback in callbacks:
            callback.monitor, callback.mode = monitor, mode
            callback.kth_value = torch.tensor(torch.inf if mode == "min" else -torch.inf)
            if [other.state_key for other in trainer.callbacks].count(callback.state_key) > 1:  # type: ignore[attr-defined]
                raise UserError(
                    f"best.ckpt monitors {monitor}, and so does another ModelCheckpoint, whose state would be confused "
                    "with it on a resume: remove that, or choose another score for best.ckpt with --monitor"
                )
        for part in self.run_config.config["trainer"]["callbacks"]:
            if part.get("init_args", {}).get("monitor") == DEFAULT and part["class_path"].endswith("ModelCheckpoint"):
                part["init_args"] |= {"monitor": monitor, "mode": mode}
        self.run_config.write(trainer)
        choice = f"monitors {monitor}" if monitor else "is the newest epoch's"
        why = f"no {DEFAULT} is logged" if logged else "no validation score is logged"
        rank_zero_only(print)(f"best  {why}: best.ckpt {choice}; --monitor NAME chooses a score", flush=True)
