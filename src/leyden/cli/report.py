"""What a command prints at its end: scores, the run's directory, and the next command."""

import shlex
from pathlib import Path

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

from leyden.checkpoints.resume import limits_to_raise
from leyden.cli.console import say
from leyden.cli.preflight import missing_for
from leyden.cli.run import Run
from leyden.errors import UserError
from leyden.runs.directory import short_path
from leyden.runs.launches import record_end
from leyden.runs.metrics import best_scores
from leyden.runs.wandb import RunWandbLogger


def finish_fit(
    run: Run, trainer: Trainer, model: LightningModule, data: LightningDataModule | None, test_after_fit: bool
) -> None:
    """Test the best checkpoint of a training, print the report, and record the end of the run.

    Args:
        run: The run.
        trainer: The Trainer, after `fit`.
        model: The model.
        data: The data.
        test_after_fit: Whether to test.

    Raises:
        UserError: Not one step was trained.
    """
    if trainer.global_step == run.checkpoint.get("global_step", 0) and not run.only_test:
        limits = limits_to_raise(run.record, trainer.current_epoch, trainer.global_step)
        raise UserError(f"no step was left to train: raise {limits} to go on")
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    missing = missing_for(model, data, "test")
    if test_after_fit and missing:
        say(f"test  no test after fit: {missing}")
    elif test_after_fit:
        # when it loads, WeightAveraging would take the weights before averaging, which are in the file as well
        averaging = [c for c in trainer.callbacks if isinstance(c, WeightAveraging)]  # type: ignore[attr-defined]
        trainer.callbacks = [c for c in trainer.callbacks if c not in averaging]  # type: ignore[attr-defined]
        source = short_path(best) if best else "the weights of the last step"
        say(f"from  {source}{', averaged weights' if averaging else ''}")
        trainer.test(model, data, ckpt_path=best or None, verbose=False, weights_only=True)
    report(trainer, best, "predict" if missing else "test")
    if trainer.is_global_zero:
        record_end(Path(trainer.default_root_dir))


def report(trainer: Trainer, best: str = "", next_command: str = "test") -> None:
    """Print the scores, where the run is and what to do next.

    Args:
        trainer: The Trainer, after its work.
        best: The path of the best checkpoint of a training.
        next_command: The subcommand to run on it.
    """
    split = {TrainerFn.VALIDATING: "val", TrainerFn.TESTING: "test"}.get(trainer.state.fn or TrainerFn.FITTING)
    if split is not None and trainer.callback_metrics:
        shown = (f"{name} {float(value):.4g}" for name, value in sorted(trainer.callback_metrics.items()))
        say(f"{split:<6}{', '.join(shown)}")
    scores = best_scores(trainer.checkpoint_callback, Path(trainer.default_root_dir)) if best else {}
    if scores:
        epoch = f"epoch {scores.pop('epoch') + 1:.0f}: " if "epoch" in scores else ""
        shown = (f"{name} {value:.4g}" for name, value in scores.items() if name.startswith("val"))
        say(f"best  {epoch}{', '.join(shown)}")
    say(f"run   {shlex.quote(short_path(trainer.default_root_dir))}")
    for logger in trainer.loggers:
        if isinstance(logger, RunWandbLogger) and logger.where:
            say(f"W&B   {logger.where}")
    if best:
        say(f"next  leyden {next_command} --ckpt_path {shlex.quote(short_path(best))}")
