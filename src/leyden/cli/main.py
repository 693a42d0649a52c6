"""Run a command: settings of the process, exit codes, one-line errors."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch.distributed
from lightning.pytorch.utilities import rank_zero_only

from leyden.cli.cli import CLI
from leyden.cli.console import quieten_lightning, shorter_help
from leyden.cli.faults import known_fault
from leyden.cli.help import command_help
from leyden.data.workers import without_traceback
from leyden.errors import RunError, UserError
from leyden.lightning_internals import send_worker_errors
from leyden.runs.directory import leave_run
from leyden.runs.wandb_start import finish_tracking
from leyden.security import check_command, check_environment

SECONDS_FOR_RANK_ZERO = 10


def main(args: list[str]) -> int:
    """Run the command line and return its exit code. The global settings of the process are made here and by `CLI`.

    Args:
        args: The subcommand and what follows it on the command line.

    Returns:
        0 on success, 1 after a fault of the run, 2 after a mistake of the user; one line on stderr explains 1 and 2.
        130 after Ctrl-C before there was anything to save.

    Raises:
        Exception: An error of no known kind, with its traceback.
    """
    quieten_lightning()
    send_worker_errors()
    wants_help = any(arg in ("-h", "--help") or arg.partition("=")[0].endswith(".help") for arg in args)
    code = 1
    try:
        check_environment()
        check_command(args)
        if (run := _command_without_trainer(args)) is not None:
            print(command_help(args[0])) if {"-h", "--help"} & {*args} else run(args[1:])
        else:
            with shorter_help() if wants_help else nullcontext():
                _command_line(args[0])(args)
        code = 0
    except KeyboardInterrupt:
        code = 130
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        code = 130  # Lightning exits with 1
    except Exception as error:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            # when a rank fails, torchrun sends SIGTERM to the others at once and SIGKILL 30 seconds later:
            # without SIGTERM they have the time to report why they end
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        fault = without_traceback(error) if isinstance(error, (UserError, RunError)) else known_fault(error)
        if fault is None:
            raise
        code = 2 if isinstance(fault, UserError) else 1
        rank = rank_zero_only.rank  # type: ignore[attr-defined]
        where = f"rank {rank} on {socket.gethostname()}: " if rank else ""
        if rank and code == 2:
            # a mistake is that of all ranks, as a rule: when rank 0 has said so, what has started this one kills it
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(SECONDS_FOR_RANK_ZERO)
        print(f"error: {where}{' '.join(str(fault).split())}", file=sys.stderr)
    finally:
        finish_tracking(code)
        leave_run(refused=code == 2)
    if code == 0 and torch.distributed.is_initialized():
        # gloo's threads may still hold tensors, and to release one while the interpreter ends aborts the process
        torch.distributed.destroy_process_group()
    return code


def _command_line(command: str) -> type[CLI]:
    if command != "show":
        return CLI
    from leyden.cli.show import ShowCLI  # other commands do not need it

    return ShowCLI


def _command_without_trainer(args: list[str]) -> Callable[[list[str]], None] | None:
    """Return what runs a command that needs no Trainer, None for the others. Each imports only what it needs."""
    match args[0]:
        case "predict" if any(arg.partition("=")[0] == "--images" for arg in args):
            from leyden.deploy.predict_images import predict_images

            return predict_images
        case "demo":
            from leyden.deploy.demo.command import demo

            return demo
        case "export":
            from leyden.deploy.export.command import export

            return export
    return None
