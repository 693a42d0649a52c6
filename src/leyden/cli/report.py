"""What a command prints at its end: scores, the run's directory, and the next command."""

import shlex
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from leyden.cli.console import say
from leyden.runs.directory import short_path
from leyden.runs.metrics import best_scores
from leyden.runs.wandb import RunWandbLogger


def report_source(checkpoint: str, is_averaged: bool) -> None:
    """Print which weights are tested."""
    source = short_path(checkpoint) if checkpoint else "the weights of the last step"
    say(f"from  {source}{', averaged weights' if is_averaged else ''}")


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
