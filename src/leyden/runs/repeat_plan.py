"""The runs of `leyden repeat`: their seeds and folds, their folder, and the command of each; needs no torch."""

import argparse
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml

from leyden import PROJECT
from leyden.errors import UserError
from leyden.runs.directory import RUNS, all_runs, check_name, short_path
from leyden.runs.flat_config import different_options, flat
from leyden.runs.metrics import has_ended
from leyden.security import check_command, check_file

REPEAT = "LEYDEN_REPEAT"  # environment variable by which `leyden fit` knows which run it continues
RECORD = "repeat.yaml"  # what all runs of a folder have in common


class Part(NamedTuple):
    """One of the runs."""

    seed: int
    fold: int | None

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"seed-{self.seed}" + ("" if self.fold is None else f"_fold-{self.fold}")

    def __str__(self) -> str:
        return f"seed {self.seed}" + ("" if self.fold is None else f", fold {self.fold}")


@dataclass
class Plan:
    """All runs of one command.

    Args:
        root: The directory of all runs.
        name: Name of the folder of these runs below it.
        command: The arguments of `leyden fit` that all runs have in common.
        seeds: Number of seeds.
        folds: Number of folds, None for no cross-validation.
        jobs: Number of runs at a time; 0 only shows the scores.
    """

    root: Path
    name: str
    command: list[str]
    seeds: int
    folds: int | None
    jobs: int

    @property
    def folder(self) -> Path:
        """The folder of these runs."""
        return self.root / self.name

    @property
    def parts(self) -> list[Part]:
        """The runs, in the order of their numbers in a job array."""
        folds: Iterable[int | None] = [None] if self.folds is None else range(self.folds)
        return [Part(seed, fold) for seed in range(self.seeds) for fold in folds]

    def command_of(self, part: Part) -> list[str]:
        """Return the arguments of `leyden` for one of the runs; the same ones resume it."""
        folds = [] if part.fold is None else [f"--data.folds={self.folds}", f"--data.fold={part.fold}"]
        place = [f"--name={self.name}/{part.folder}", f"--trainer.default_root_dir={self.root}"]
        return ["fit", *self.command, f"--seed_everything={part.seed}", *folds, *place]

    def ended_run(self, part: Part) -> Path | None:
        """Return the directory of one of the runs if it has ended; that of the newest attempt."""
        return next((run for run in reversed(all_runs(self.folder / part.folder)) if has_ended(run)), None)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"leyden repeat: {message}")


def read_plan(args: Sequence[str]) -> Plan:
    """Read the arguments after `leyden repeat`, and record in the folder what all its runs have in common.

    Raises:
        UserError: An option is wrong or missing, or the folder has runs of another configuration.
    """
    check_command(args)
    parser = _Parser(prog="leyden repeat", allow_abbrev=False, add_help=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--folds", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--name")
    parser.add_argument("--trainer.default_root_dir", dest="root")
    known, flags = parser.parse_known_args(args)
    options = _options(known.config, flags)
    if known.seeds is None and known.folds is None:
        raise UserError("leyden repeat: give --seeds N for the seeds 0 to N-1, --folds K for cross-validation, or both")
    seeds = 1 if known.seeds is None else known.seeds
    for option, value, least in (("seeds", seeds, 1), ("folds", known.folds, 2), ("jobs", known.jobs, 0)):
        if value is not None and value < least:
            raise UserError(f"--{option} must be {least} or more, but is {value}")
    _check_flags(flags, known.folds)
    experiments = [Path(file).stem for file in known.config if Path(file).parent.name != "with"]
    name: str = known.name or options.get("name") or next(iter(experiments), "")
    if not name:
        raise UserError("leyden repeat: give the experiment by --config, or a --name for the folder of its runs")
    check_name(name)
    command = [*(f"--config={Path(file).absolute()}" for file in known.config), *flags]
    if "wandb.group" not in options:
        command.append(f"--wandb.group={name}")
    root = Path(known.root or options.get("trainer.default_root_dir") or RUNS).absolute()
    plan = Plan(root, name, command, seeds, known.folds, known.jobs)
    _record(plan, options | {"data.folds": known.folds or options.get("data.folds")})
    return plan


def _check_flags(flags: Sequence[str], folds: int | None) -> None:
    """Refuse options of `leyden fit` that differ between the runs, or name another one."""
    given = {flag.partition("=")[0] for flag in flags}
    reasons = {
        "--seed_everything": "--seeds N takes the seeds 0 to N-1",
        "--ckpt_path": "the same command resumes what was stopped",
    }
    if folds is not None:
        reasons |= dict.fromkeys(("--data.folds", "--data.fold"), "--folds sets it for each run")
    for flag, reason in reasons.items():
        if flag in given:
            raise UserError(f"leyden repeat takes no {flag}: {reason}")


def _options(configs: Sequence[str], flags: Sequence[str]) -> dict[str, Any]:
    """Return {option: value} of the defaults, the configurations and the flags; the later wins.

    Raises:
        UserError: A configuration cannot be read.
    """
    options: dict[str, Any] = {}
    for file in (str(PROJECT / "configs" / "defaults.yaml"), *configs):
        check_file(file)
        try:
            content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = getattr(error, "strerror", None) or "it is no YAML"
            raise UserError(f"cannot read {file} ({reason})") from error
        if not isinstance(content, dict):
            raise UserError(f"{file} is no configuration: it must have lines such as `model: ConvNet`")
        options |= flat(content)
    given: dict[str, str] = {}
    name = ""
    for flag in flags:
        if flag.startswith("--"):
            name, _, value = flag[2:].partition("=")
        elif not name:
            raise UserError(f"leyden repeat: {flag} is no option")
        else:
            value = flag
        given[name] = f"{given.get(name, '')} {value}".strip()  # an option that appends is given several times
    return options | given


def _record(plan: Plan, options: dict[str, Any]) -> None:
    """Write what the runs have in common, or compare it with what is there; then take the command from there.

    So the command that resumes a run is that which started it, however its options were ordered.
    """
    file = plan.folder / RECORD
    record = {"command": plan.command, "options": options}
    if file.is_file() and any(all_runs(folder) for folder in plan.folder.glob("seed-*")):
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        for option, (old, new) in different_options(found["options"], options).items():
            raise UserError(
                f"{short_path(plan.folder)} has runs of another configuration ({option} was {old}, now {new}): "
                "give these a folder of their own by --name"
            )
        plan.command = found["command"]
        return
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        part = plan.folder / f".{RECORD}.{uuid.uuid4().hex}"  # the tasks of a job array may write at the same time
        part.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
        part.replace(file)
    except OSError as error:
        raise UserError(f"cannot write the runs to {plan.folder} ({error.strerror})") from error
