"""Runs a command and answers for it: one line for a mistake or a fault, an exit code, no warning of no use."""

import io
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout

from leyden.cli.cli import CLI
from leyden.cli.faults import known_fault
from leyden.data.array_loader import report_lost_batches
from leyden.errors import RunError, UserError
from leyden.runs.directory import leave_run
from leyden.runs.wandb_start import finish_tracking
from leyden.security import check_environment, check_words

SPARED = (  # patterns of what Lightning says that does not help the user here
    "does not have many workers",  # arrays in memory are fetched faster without
    "Tip: For seamless",  # advertisements
    "Trainer already configured with model summary",
    "TPU available: False",
    "stopped: `max_epochs=",  # which the number of the last epoch says
    "Restor(ing|ed all) states from the checkpoint",  # the line `from` says it
    "Loaded model weights from the checkpoint",
    "Checkpoint directory .* exists and is not empty",  # so it is when a run goes on
    "smaller than the logging interval",  # scores are logged every epoch all the same
    "The dirpath has changed",  # every run has a directory of its own
    "in eval mode at the start of training",  # a frozen backbone is there on purpose
    "fp16 is not supported on CPU",  # which is refused
    "dataloader is not resumable",  # said by leyden.data.resumable, and only where it is so
    r"recommended to use `self.log\('lr",  # the same on all ranks
)


def _is_shown(record: logging.LogRecord) -> bool:
    """Say whether a message of Lightning's helps the user."""
    return not any(re.search(message, record.getMessage()) for message in SPARED)


def _quieten_lightning() -> None:
    """Filter what Lightning logs and warns of; the warnings of a user's own code are shown."""
    for message in SPARED:
        warnings.filterwarnings("ignore", f".*{message}")
    for category in (FutureWarning, DeprecationWarning):  # Lightning's own use of what torch has deprecated
        warnings.filterwarnings("ignore", category=category, module=r"lightning\.")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_shown)


@contextmanager
def _shorter_help() -> Iterator[None]:
    """Leave out of what is printed that a layer may be any of torch's thousand modules, one by one."""
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            yield
    finally:
        print(re.sub(r",\s+known\s+subclasses:[^)]*", "", text.getvalue()), end="")


def main(args: list[str]) -> int:
    """Run the command line and return its exit code.

    Args:
        args: The words after `leyden`.

    Returns:
        0; 1 after a fault of the run and 2 after a mistake of the user's, which one line on stderr explains; 130 after
        Ctrl-C before there was anything to save. Anything else raises.
    """
    _quieten_lightning()
    asks_for_help = any(word in ("-h", "--help") or word.partition("=")[0].endswith(".help") for word in args)
    report_lost_batches()
    code = 1
    try:
        check_environment()
        check_words(args)
        with _shorter_help() if asks_for_help else nullcontext():
            CLI(args)
        code = 0
    except KeyboardInterrupt:
        code = 130
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        code = 130  # Lightning would make it 1
    except Exception as error:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            # of a run that a rank has left, torchrun sends it to the others at once, and SIGKILL half a minute later:
            # until then they can say why they end
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        fault = error if isinstance(error, (UserError, RunError)) else known_fault(error)
        if fault is None:
            raise
        print(f"error: {' '.join(str(fault).split())}", file=sys.stderr)
        code = 2 if isinstance(fault, UserError) else 1
    finally:
        finish_tracking(code)
        leave_run(refused=code == 2)
    return code
