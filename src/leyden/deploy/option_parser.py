"""The parser of the commands that need no Trainer."""

import argparse
from typing import NoReturn

from leyden.errors import UserError


class OptionParser(argparse.ArgumentParser):
    """A parser that raises what is wrong instead of exiting; `leyden.cli.help` explains the options."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Refuse the options.

        Raises:
            UserError: Always.
        """
        raise UserError(message)
