"""The two exceptions that end a command with one line instead of a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake that the user can correct.

    The message is one line that says what is wrong and what to do. The command line prints it and exits with code 2.
    """


class RunError(Exception):
    """A fault that ends a run and is not a mistake of the user.

    The message is one line. The command line prints it and exits with code 1; everything saved before is kept.
    """


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return a question with the nearest candidate, empty without one; `max_epochs` is near `trainer.max_epochs`."""
    full = {candidate.rpartition(".")[2]: candidate for candidate in candidates}
    full |= {candidate: candidate for candidate in full.values()}
    matches = (
        get_close_matches(name, full.values(), n=1, cutoff=0.8)
        or sorted(candidate for candidate in full if len(name) > 2 and candidate.startswith(name))
        or get_close_matches(name, full, n=1)
        or get_close_matches(name.rpartition(".")[2], full, n=1)
    )
    return f"; did you mean `{full[matches[0]]}`?" if matches else ""
