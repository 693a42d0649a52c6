"""What the command line prints, and which messages of Lightning it hides."""

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from lightning.pytorch.utilities import rank_zero_only

HIDDEN = (  # patterns of messages of Lightning that do not help the user here
    "does not have many workers",  # arrays in memory are fetched faster without
    "Tip: For seamless",  # advertisements
    "Trainer already configured with model summary",
    "TPU available: False",
    "stopped: `max_epochs=",  # shown by the number of the last epoch
    "Restor(ing|ed all) states from the checkpoint",  # shown by the line `from`
    "Loaded model weights from the checkpoint",
    "Checkpoint directory .* exists and is not empty",  # as in every resumed run
    "smaller than the logging interval",  # scores are logged every epoch all the same
    "The dirpath has changed",  # every run has its own directory
    "in eval mode at the start of training",  # a frozen backbone is intended
    "fp16 is not supported on CPU",  # it is refused
    "dataloader is not resumable",  # leyden.data.resumable warns where it applies
    r"recommended to use `self.log\('lr",  # equal on all ranks
)


def _is_shown(record: logging.LogRecord) -> bool:
    """Return whether a message of Lightning helps the user."""
    return not any(re.search(message, record.getMessage()) for message in HIDDEN)


def quieten_lightning() -> None:
    """Filter messages and warnings of Lightning; warnings of the user's own code are shown."""
    for message in HIDDEN:
        warnings.filterwarnings("ignore", f".*{message}")
    for category in (FutureWarning, DeprecationWarning):  # Lightning's own use of what torch has deprecated
        warnings.filterwarnings("ignore", category=category, module=r"lightning\.")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_shown)


@contextmanager
def shorter_help() -> Iterator[None]:
    """Remove the list of torch's thousand modules, any of which a layer may be, from the help that is printed."""
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            yield
    finally:
        print(re.sub(r",\s+known\s+subclasses:[^)]*", "", text.getvalue()), end="")


@rank_zero_only
def say(line: str) -> None:
    """Print a line, once for all ranks."""
    print(line, flush=True)
