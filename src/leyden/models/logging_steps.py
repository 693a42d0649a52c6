"""Which training steps are logged."""

from lightning.pytorch import Trainer


def is_logging_step(trainer: Trainer) -> bool:
    """Return whether the current optimizer step is an n-th one, n being `trainer.log_every_n_steps`.

    `self.log` makes the same choice, but costs 0.33 ms a step, also on those that are not logged.
    """
    return (trainer.global_step + 1) % trainer.log_every_n_steps == 0  # type: ignore[attr-defined, no-any-return]
