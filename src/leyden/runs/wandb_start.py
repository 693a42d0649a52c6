"""Start, continue and end W&B runs: online if possible, and never waiting longer than a limit."""

import atexit
import json
import math
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from leyden import PROJECT
from leyden.lightning_internals import skip_wandb_launch
from leyden.runs import wandb_process
from leyden.runs.directory import short_path
from leyden.runs.wandb_process import process_watch

# seconds to upload the rest at the end, without and with checkpoints; what remains is on disk for `wandb sync`
FINISH_TIMEOUT = (60.0, 900.0)
GRACE = 5.0  # seconds after FINISH_TIMEOUT until wandb's own process counts as frozen


def choose_mode() -> tuple[str, str]:
    """Return `online` if there are a key and a server that accepts it, else `offline`; and the reason.

    It asks nothing at the terminal. A server has ten seconds, wandb's own limit.
    """
    import wandb

    if wandb.setup().settings.mode in ("offline", "dryrun"):
        return "offline", "as wandb's settings say"
    try:
        if wandb.login(prompt=False, verify=True):
            return "online", ""
    except wandb.errors.Error as error:
        return "offline", " ".join(str(error).split())
    return "offline", "no key: `wandb login` once, to go online"


def start_run(mode: str | None, uploads_files: bool, **options: Any) -> tuple[Any, str]:
    """Start a W&B run, or continue it if its id exists; return it and the reason of its mode.

    Args:
        mode: `online`, `offline` or `disabled`; None lets `choose_mode` decide. Offline if `online` fails.
        uploads_files: Whether checkpoints are uploaded, so that the end may take long.
        options: Arguments of `wandb.init`.
    """
    import wandb  # takes half a second, so only where it is used

    skip_wandb_launch()
    mode, reason = choose_mode() if mode is None else (mode, "as asked")
    try:
        return _init(mode, uploads_files, **options), reason
    except wandb.errors.Error as error:
        if mode != "online":
            raise
        return _init("offline", uploads_files, **options), str(error).partition("\n")[0]


def _init(mode: str, uploads_files: bool, **options: Any) -> Any:
    import wandb

    silent = mode in ("offline", "dryrun")  # the logger prints one line instead
    if silent:  # else wandb 0.31 reports on itself to the server, even for a run without a key
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    settings = wandb.Settings(finish_timeout=FINISH_TIMEOUT[uploads_files], quiet=True, silent=silent)
    with process_watch().limit(wandb_process.CALL_TIMEOUT + settings.init_timeout):
        run = wandb.run or wandb.init(mode=mode, settings=settings, resume="allow", **options)  # type: ignore[arg-type]
        run.define_metric("trainer/global_step")  # the x axis of all plots
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    if not run.disabled:
        # at exit wandb waits for its own process; the function registered last is called first
        atexit.register(process_watch().start_timer, wandb_process.CALL_TIMEOUT)
    return run


def last_step_on_disk(directory: Path, run: Any) -> int:
    """Return the last step in W&B's files of earlier parts of a run, -1 if there is none.

    `wandb sync` stops at a file that a kill has truncated, so it is renamed and its steps are logged again.

    Args:
        directory: The run's directory.
        run: The W&B run that continues it.
    """
    steps = [-1]
    current = Path(run.dir).parent.resolve()
    for folder in sorted((directory / "wandb").glob(f"*-{run.id}")):
        if folder.resolve() == current or folder.name.startswith("killed-"):
            continue
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        lines = done.stdout.splitlines()
        uploaded = folder.name.startswith("run-") or any(folder.glob("*.sync*"))
        complete = any('"type":"exit"' in line for line in lines)
        if uploaded or complete:
            steps += [json.loads(line)["history"]["step"].get("num", 0) for line in lines if '"history"' in line]
        if not complete and (directory / "metrics.csv").exists():
            folder.rename(folder.with_name(f"killed-{folder.name}"))
            print(f"W&B   {folder.name} was truncated by a kill: its steps are logged again from metrics.csv")
    return max(steps)


def finish_tracking(exit_code: int) -> None:
    """End this process's W&B run, if there is one."""
    wandb = sys.modules.get("wandb")
    if wandb is None or wandb.run is None:
        return
    files = Path(wandb.run.dir).parent
    folder = str(files.parent)
    timeout = wandb.run.settings.finish_timeout or math.inf  # another logger than ours may have set none
    try:
        with process_watch().limit(timeout + GRACE):
            wandb.finish(exit_code)
    except Exception as error:  # wandb's own process died, or was frozen and has been killed
        reason = " ".join(f"{type(error).__name__} {error}".split())
        print(f"W&B   the end was not logged ({reason}); what is on disk: wandb sync {short_path(files)}")
        with suppress(Exception), process_watch().limit(wandb_process.CALL_TIMEOUT):
            wandb.teardown()  # else wandb does it at exit, with a traceback
    if os.environ.get("WANDB_DATA_DIR") == folder:  # set by RunWandbLogger
        del os.environ["WANDB_DATA_DIR"]


def git_state() -> dict[str, Any]:
    """Return the `commit` of this project and whether files differ from it (`dirty`); empty outside of git."""
    git = ["git", "-C", str(PROJECT)]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, stderr=subprocess.DEVNULL).strip()
        return {"commit": commit, "dirty": bool(subprocess.check_output([*git, "status", "--porcelain"]).strip())}
    except (OSError, subprocess.CalledProcessError):
        return {}
