"""Order the arguments of a subcommand, and read the checkpoint that they name."""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leyden.checkpoints.find import find_checkpoint
from leyden.checkpoints.io import read_checkpoint
from leyden.cli.console import say
from leyden.cli.overlays import check_overlays
from leyden.errors import UserError
from leyden.runs.directory import LAST, RUNS, short_path
from leyden.runs.launches import restarted_run
from leyden.security import check_file


@dataclass
class Arguments:
    """The arguments of one command.

    Args:
        command: The subcommand and what follows it on the command line.
        configs: The files of `--config`.
        flags: All other arguments.
        default_root_dir: Value of `--trainer.default_root_dir`, if given.
        name: Value of `--name`, if given.
    """

    command: list[str]
    configs: list[str]
    flags: list[str]
    default_root_dir: str | None
    name: str | None
    all_classes: bool = False  # whether `predict` writes the probability of every class
    ckpt_path: Path | None = None
    checkpoint: dict[str, Any] = field(default_factory=dict)  # the content of ckpt_path
    resumed_run: Path | None = None  # the directory of the run that `fit` continues
    foreign_run: Path | None = None  # the directory of the checkpoint's run, where it is not below `root`
    is_restart: bool = False  # whether SLURM or torchrun has started this command again
    remembered: dict[str, Any] = field(default_factory=dict)  # the configuration that the checkpoint contributes

    @property
    def subcommand(self) -> str:
        """`fit`, `validate`, `test` or `predict`."""
        return self.command[0]

    @property
    def root(self) -> Path:
        """The directory of all runs."""
        return Path(self.default_root_dir or RUNS)

    @property
    def default_name(self) -> str | None:
        """The name of the first `--config` that is no overlay, None without one."""
        return next((Path(file).stem for file in self.configs if Path(file).parent.name != "with"), None)

    def in_order(self) -> list[str]:
        """Return what the parser reads: the checkpoint's configuration, then each `--config`, then the flags."""
        if self.is_restart and self.ckpt_path is not None:  # config.yaml is what the same command resolved to before
            files, flags = [str(self.ckpt_path.parents[1] / "config.yaml")], []
        else:
            files, flags = self.configs, list(self.flags)
        first = [json.dumps(self.remembered)] if self.remembered else []
        flags += [f"--name={self.name}"] if self.name else []
        flags += [f"--trainer.default_root_dir={self.default_root_dir}"] if self.default_root_dir else []
        return [self.subcommand, *(f"--config={config}" for config in (*first, *files)), *flags]


def read_arguments(command: list[str]) -> Arguments:
    """Read the arguments, and the checkpoint if they name one.

    Args:
        command: The subcommand and what follows it on the command line.

    Raises:
        UserError: A file of `--config` is refused, overlays contradict each other, there is no such checkpoint, or one
            is needed.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    parser.add_argument("--ckpt_path")
    parser.add_argument("--name")
    parser.add_argument("--trainer.default_root_dir", dest="default_root_dir")
    if command[0] == "predict":
        parser.add_argument("--all", action="store_true")
    known, flags = parser.parse_known_args(command[1:])
    for config in known.config:
        check_file(config)
    check_overlays(known.config)
    args = Arguments(command, known.config, flags, known.default_root_dir, known.name)
    args.all_classes = getattr(known, "all", False)
    restarted = restarted_run(args.root, command) if args.subcommand == "fit" else None
    if restarted or known.ckpt_path:
        args.is_restart = restarted is not None
        _read_checkpoint(args, str(restarted or known.ckpt_path))
    elif args.subcommand not in ("fit", "show") and not any("help" in flag or flag == "-h" for flag in flags):
        raise UserError(f"`leyden {args.subcommand}` needs --ckpt_path: a file, a run directory, `best` or `last`")
    return args


def _read_checkpoint(args: Arguments, request: str) -> None:
    """Read the checkpoint that `--ckpt_path request` means, and find out which run it belongs to."""
    default = "last" if args.subcommand == "fit" else "best"
    path = find_checkpoint(request, args.root, args.name or args.default_name, default)
    args.ckpt_path, args.checkpoint = path, read_checkpoint(path)
    averaged = "averaging_state" in args.checkpoint and args.subcommand != "fit"
    step = args.checkpoint.get("global_step")
    say(f"from  {short_path(path)}, step {step}{', averaged weights' if averaged else ''}")

    run = path.absolute().parents[1]
    is_in_run = path.parent.name == "checkpoints" and (run / "config.yaml").is_file()
    # last.ckpt continues its run; from any other file that the user names, a new run branches off
    if args.subcommand == "fit" and is_in_run and (not Path(request).is_file() or path.name == LAST):
        args.resumed_run = run
    if args.root.resolve() not in path.resolve().parents:
        args.foreign_run = run
    if not args.is_restart:
        args.remembered = _remembered(args.checkpoint, args.subcommand)


def _remembered(checkpoint: dict[str, Any], subcommand: str) -> dict[str, Any]:
    """Return the checkpoint's configuration; for an evaluation, only the part that determines the scores."""
    config: dict[str, Any] = checkpoint.get("config", {})
    if subcommand == "fit" or not config:
        return config
    scores = {key: config[key] for key in ("name", "seed_everything", "model", "data")}
    return scores | {"trainer": {"precision": config["trainer"]["precision"]}}
