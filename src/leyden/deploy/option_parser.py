"""The parser of the commands that need no Trainer."""

import argparse
from typing import NoReturn

from leyden.errors import UserError, did_you_mean


class OptionParser(argparse.ArgumentParser):
    """A parser of `--ckpt_path` and the options of one command, which `leyden.cli.help` explains.

    Args:
        command: What takes the options, for the messages, such as `leyden export`.
    """

    def __init__(self, command: str) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self.command = command
        self.add_argument("--ckpt_path")

    def error(self, message: str) -> NoReturn:
        """Refuse the options instead of exiting.

        Raises:
            UserError: Always.
        """
        raise UserError(message)

    def read(self, args: list[str]) -> argparse.Namespace:
        """Return the options.

        Args:
            args: What follows the command.

        Raises:
            UserError: An option is unknown, wrong or missing.
        """
        options, unknown = self.parse_known_args(args)
        for arg in unknown:
            name = arg.lstrip("-").partition("=")[0]
            if name in ("config", "c"):
                raise UserError(
                    f"{self.command} takes no --config: model and preprocessing are those of the checkpoint"
                )
            if not arg.startswith("-"):
                raise UserError(f"`{arg}` belongs to no option of {self.command}")
            raise UserError(f"{self.command} has no option `--{name}`{did_you_mean(name, vars(options))}")
        if options.ckpt_path is None:
            raise UserError(f"{self.command} needs --ckpt_path: a file, a run directory, `best` or `last`")
        return options
