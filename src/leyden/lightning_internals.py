"""Every use of a private name of Lightning, torch or wandb, each with the reason why no public way does it.

tests/test_lightning_internals.py holds each to the installed version.
"""

import sys
from functools import cache

from torch.optim import Optimizer


def unscale_before_clipping(optimizer: Optimizer) -> None:
    """Make a fused optimizer take gradients that are already divided by the loss scale (private in torch).

    Its kernel can divide them itself, which is after any clipping. torch's GradScaler and Lightning's check before
    clipping both read this attribute; torch has no argument for it.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]


def kill_wandb_service() -> bool:
    """Kill the process to which wandb sends what is logged, and return whether there was one (private in wandb).

    wandb 0.31 has no public way to end a process that does not answer. There is none to kill before the first run,
    nor if another program started it.
    """
    from wandb.sdk import wandb_setup

    service = wandb_setup.singleton()._connection
    if service is None or service._proc is None:
        return False
    service._proc._process.kill()
    return True


@cache
def skip_wandb_launch() -> None:
    """Keep wandb from importing W&B Launch at the start of a run (private in wandb).

    It looks for the inputs of a launched job: 0.9 CPU seconds, half of the start. Only functions of that package can
    set such inputs, so there are none before it is imported. wandb 0.31 has no setting for it (its issue 5440).
    """
    from wandb.sdk.wandb_run import Run

    apply_inputs = getattr(Run, "_detect_and_apply_job_inputs", None)
    if apply_inputs is None:  # a newer wandb starts without
        return

    def apply_staged_inputs(run: Run) -> None:
        if "wandb.sdk.launch" in sys.modules:
            apply_inputs(run)

    Run._detect_and_apply_job_inputs = apply_staged_inputs  # type: ignore[assignment,method-assign]
