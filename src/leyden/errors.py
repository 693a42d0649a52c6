"""The two exceptions that end a command with one line instead of a traceback."""


class UserError(Exception):
    """A mistake that the user can correct.

    The message is one line that says what is wrong and what to do. The command line prints it and exits with code 2.
    """


class RunError(Exception):
    """A fault that ends a run and is not a mistake of the user.

    The message is one line. The command line prints it and exits with code 1; everything saved before is kept.
    """
