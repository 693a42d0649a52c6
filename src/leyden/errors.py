"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """A mistake that its user can mend.

    The message is one line that says what is wrong and what to do. The command line prints it without a
    traceback and exits with code 2.
    """


class RunError(Exception):
    """A fault that ends a run, not by its user's mistake.

    The command line prints its one line without a traceback and exits with code 1. What was saved before is kept.
    """
