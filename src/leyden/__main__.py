"""`leyden` and `python -m leyden`: help, `compare` and `repeat` without torch; other commands by `leyden.cli.main`."""

import gc
import io
import locale
import os
import re
import signal
import sys
from typing import NoReturn

from leyden import __version__
from leyden.cli.help import COMMANDS, command_help, overview
from leyden.cli.parent_watch import end_with_parent


def _refuse(reason: str) -> NoReturn:
    """Exit with code 2 and one line that lists the commands."""
    commands = ", ".join([*COMMANDS, "compare", "repeat", "report"])
    print(f"error: {reason}; the commands are {commands} (see `leyden --help`)", file=sys.stderr)
    sys.exit(2)


def _only_prints(args: list[str]) -> bool:
    """Return whether a command only prints."""
    return args[:1] == ["compare"] or any(re.match(r"-h$|--help$|--[\w.]+\.help(=|$)", arg) for arg in args)


def _use_utf8() -> None:
    """Read and write every file as UTF-8, and print `?` for what the terminal cannot show.

    In a locale of another encoding the interpreter starts again in its UTF-8 mode, the default from Python 3.15 on:
    jsonargparse and fsspec open files in the locale's encoding. Child processes inherit it.
    """
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return
    sys.stdout.reconfigure(errors="replace")
    if not sys.flags.utf8_mode and locale.getencoding().lower() != "utf-8":
        os.environ |= {"PYTHONUTF8": "1", "PYTHONIOENCODING": f"{sys.stdout.encoding}:replace"}
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _limit_spinning() -> None:
    """Limit how long idle OpenMP threads spin: on a busy machine they take a core from threads that have work.

    Torch's OpenMP library reads this when torch is imported. Results are the same to the bit. The limit is for GNU's
    library, which torch uses on Linux, a 30th of its default: without any spinning, training on an idle machine takes
    1.5 times as long.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}


def main() -> None:
    """Run the command line with the arguments of the process."""
    _use_utf8()
    args = sys.argv[1:]
    if _only_prints(args) and hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it, as it ends other commands
    match args:
        case ["--version"]:
            print(f"leyden {__version__}")
        case ["-h" | "--help"]:
            print(overview())
        case [command, "-h" | "--help"] if command in COMMANDS:
            print(command_help(command))
        case ["compare", *runs]:
            from leyden.runs.compare import main as compare

            sys.exit(compare(runs))
        case ["report", *runs]:
            from leyden.runs.report.command import main as report

            sys.exit(report(runs))
        case ["repeat", *words]:
            from leyden.runs.repeat import main as repeat

            sys.exit(repeat(words))
        case []:
            _refuse("a command is missing")
        case [command, *_] if command not in COMMANDS:
            _refuse(f"no command `{command}`")
        case _:
            end_with_parent()
            _limit_spinning()
            gc.disable()  # nothing is garbage yet, and to look for it takes a sixth of the time of the imports
            from leyden.cli.main import main as run  # imports torch and lightning, some seconds

            gc.freeze()  # nor will it be
            gc.enable()
            if args[1:] == ["--help", "all"]:
                args.pop()
            sys.exit(run(args))


if __name__ == "__main__":
    main()
