"""Runs in Weights & Biases, which stay offline where it cannot be reached."""

import atexit
import json
import math
import os
import shlex
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from leyden import PROJECT
from leyden.runs.metrics import best_scores, read_rows, run_title

# seconds, without and with checkpoints; what a server has not taken by then stays on disk for `wandb sync`
FINISH_TIMEOUT = (60.0, 900.0)
MLFLOW_RUN_ID = "mlflow_run_id"  # the file in a run's directory by which Lightning's MLFlowLogger goes on
# seconds for any other call; after that, and GRACE after FINISH_TIMEOUT, wandb's own process counts as frozen
CALL_TIMEOUT, GRACE = 60.0, 5.0


@dataclass
class WandbOptions:
    """How a run shows in Weights & Biases.

    Args:
        project: Project; null takes WANDB_PROJECT, or else `leyden`.
        entity: User or team; null takes that of the key.
        name: Name of the run; null takes its experiment and time.
        group: Group of runs that belong together.
        job_type: Kind of the run; null takes the command, `fit` or `test`.
        tags: Tags.
        notes: Notes.
        mode: `online`, `offline` or `disabled`; null takes WANDB_MODE, or else is online where there are a key and a
            server that takes it, and offline where there are not.
        log_model: Whether to keep best.ckpt and last.ckpt as an artifact, under the aliases best and last.
    """

    project: str | None = None
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    mode: Literal["online", "offline", "disabled"] | None = None
    log_model: bool = False


class RunWandbLogger(WandbLogger):
    """Lightning's WandbLogger, but it never stops a run, and a run that is resumed stays one run.

    The run's id is kept in `wandb_id` in its directory. A resumed run takes it up: steps that W&B holds already are
    not logged again, and those that a kill has kept from it are taken from `metrics.csv`.

    The W&B run starts with the first value that is logged, so that a run that is refused before leaves none.

    Args:
        save_dir: The run's directory; filled in by the command line.
        options: How the run shows; filled in from `--wandb`.
    """

    def __init__(self, save_dir: str = ".", options: WandbOptions | None = None) -> None:
        self.options = options or WandbOptions()
        self.directory = Path(save_dir)
        init = asdict(self.options)
        self.log_model = init.pop("log_model")
        self.mode = init.pop("mode") or os.environ.get("WANDB_MODE")
        init["project"] = init["project"] or os.environ.get("WANDB_PROJECT", "leyden")
        init["name"] = init["name"] or os.environ.get("WANDB_NAME", run_title(self.directory.absolute()))
        init["tags"] = init["tags"] or None  # None leaves it to WANDB_TAGS
        super().__init__(save_dir=save_dir, **init)
        del self._wandb_init["anonymous"]  # wandb warns of it
        self.config: dict[str, Any] = {}  # of the run; set by the command line
        self.held = -1  # the last step that W&B holds of an earlier part of this run
        self.last_step = 0
        self._pictures: set[tuple[str, int]] = set()
        self.model_checkpoint: Checkpoint | None = None  # knows the best one; set when training starts

    @property
    def experiment(self) -> Any:
        """The W&B run.

        Raises:
            AttributeError: It has not started. Lightning asks by `hasattr` before anything is checked.
        """
        if self._experiment is None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            raise AttributeError("the W&B run starts with training, or with the first value that is logged")
        return super().experiment

    @rank_zero_only
    def start(self) -> None:
        """Start the W&B run or take it up again, online if it can be and otherwise offline."""
        if self._experiment is not None:
            return
        import wandb  # costs half a second, so only where it is used

        file = self.directory / "wandb_id"
        # an agent of a sweep says the id that it wants
        given = file.read_text(encoding="utf-8") if file.exists() else os.environ.get("WANDB_RUN_ID")
        self._id = given or uuid.uuid4().hex[:12]
        file.write_text(self._id, encoding="utf-8")
        self._wandb_init |= {"id": self._id, "config": {**self.config, "git": git_state()}}
        # else wandb keeps what an offline run has yet to upload of its tables and checkpoints in the home directory
        os.environ.setdefault("WANDB_DATA_DIR", str(self.directory.absolute() / "wandb"))
        mode, reason = self.mode, "as asked"
        if mode is None:
            mode, reason = choose_mode()
        try:
            self._init(mode)
        except wandb.errors.Error as error:
            if mode != "online":
                raise
            reason = str(error).partition("\n")[0]
            self._init("offline")
        run = self.experiment
        if run.disabled:
            return
        # wandb itself waits for its process at the end of this one; what is registered last is called first
        atexit.register(_watch().allow, CALL_TIMEOUT)
        if run.offline:
            self.held = self._step_on_disk()
            print(f"W&B   offline ({reason}); to upload the run: {self.where}", flush=True)
        else:
            self.held = run.starting_step - 1 if run.resumed else -1
            print(f"W&B   {self.where}", flush=True)
        self._catch_up()

    def _init(self, mode: str) -> None:
        import wandb

        # offline, the line that is printed here is all there is to say
        silent = mode in ("offline", "dryrun")
        if silent:  # else wandb 0.31 sends reports on its own work to the server, also from a run without a key
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        _skip_launch()
        settings = wandb.Settings(finish_timeout=FINISH_TIMEOUT[self.log_model], quiet=True, silent=silent)
        self._wandb_init |= {"mode": mode, "settings": settings}
        self._experiment = None
        with _watch().limit(CALL_TIMEOUT + self._wandb_init["settings"].init_timeout):
            _ = super().experiment

    def _step_on_disk(self) -> int:
        """Return the last step that W&B's own files of earlier parts of this run hold, -1 for none.

        A file that a kill has cut off stops `wandb sync`, so it is put aside, and its steps are logged again.
        """
        steps = [-1]
        own = Path(self.experiment.dir).parent
        for folder in sorted((self.directory / "wandb").glob(f"*-{self._id}")):
            if folder.resolve() == own.resolve() or folder.name.startswith("killed-"):
                continue
            command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
            done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
            lines = done.stdout.splitlines()
            uploaded = folder.name.startswith("run-") or any(folder.glob("*.sync*"))
            whole = any('"type":"exit"' in line for line in lines)
            if uploaded or whole:
                steps += [json.loads(line)["history"]["step"].get("num", 0) for line in lines if '"history"' in line]
            if not whole and (self.directory / "metrics.csv").exists():
                folder.rename(folder.with_name(f"killed-{folder.name}"))
                print(f"W&B   {folder.name} was cut off by a kill: its steps are logged again from metrics.csv")
        return max(steps)

    def _catch_up(self) -> None:
        """Log what metrics.csv holds of earlier steps and W&B does not."""
        file = self.directory / "metrics.csv"
        for step, row in read_rows(file).items() if file.exists() else ():
            self.log_metrics(row, step)

    @property
    def where(self) -> str:
        """Where the run can be seen: its address, or the command that uploads it; empty before it has started."""
        if self._experiment is None or self._experiment.disabled:
            return ""
        folder = min(str(self.directory), os.path.relpath(self.directory), key=len)
        wandb_folder = shlex.quote(f"{folder}/wandb")
        return str(self.experiment.url) if not self.experiment.offline else f"wandb sync {wandb_folder}/offline-run-*"

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Add to the run's configuration."""
        self.start()
        with _not_in_the_way("the configuration"):
            super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log values; those of the same step make one row."""
        self.start()
        step = self.last_step if step is None else step
        if step > self.held:
            self.last_step = max(step, self.last_step)
            with _not_in_the_way(f"step {step}"):
                self.experiment.log({**metrics, "trainer/global_step": step}, step=step)
                return
            self.held = sys.maxsize  # wandb's own process is gone

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Add the best scores, the pictures in the run's directory and, if asked for, the checkpoints."""
        if self._experiment is not None and status == "success":
            with _not_in_the_way("what the run ended with"):
                self._log_end()

    def _log_end(self) -> None:
        best = best_scores(self.model_checkpoint, self.directory)
        self.experiment.summary.update({f"best/{name}": value for name, value in best.items()})
        for file in sorted(self.directory.glob("*.png")):
            drawn = (file.name, file.stat().st_mtime_ns)
            if drawn not in self._pictures:
                self._pictures.add(drawn)
                self.log_image(file.stem, [str(file)], self.last_step, caption=[run_title(self.directory)])
        if self.log_model:
            self._log_checkpoints()

    def log_table(self, key: str, *args: Any, **kwargs: Any) -> None:
        """Log a table."""
        with _not_in_the_way(key):
            super().log_table(key, *args, **kwargs)

    def _log_checkpoints(self) -> None:
        import wandb

        for alias in ("last", "best"):  # the same file twice is one version with both aliases
            file = self.directory / "checkpoints" / f"{alias}.ckpt"
            if file.exists():
                with _not_in_the_way(file.name):
                    artifact = wandb.Artifact(f"model-{self._id}", type="model")
                    artifact.add_file(str(file), name="model.ckpt")
                    self.experiment.log_artifact(artifact, aliases=[alias])
        self.log_model = False  # a test that follows has no other ones


@contextmanager
def _not_in_the_way(what: str) -> Iterator[None]:
    """Say what was not logged, and go on: a run does not fail because a server or wandb's own process did."""
    try:
        with _watch().limit(CALL_TIMEOUT):
            yield
    except Exception as error:  # of any kind, also those of the libraries that wandb uses
        print(f"W&B   {what} was not logged: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)


class _Watch(threading.Thread):
    """Kill wandb's own process when a call has waited for it too long.

    wandb 0.31 waits for it without a limit, also to send it what is logged, once the socket is full: a process that is
    stopped would hold the run for ever. With its death every wait ends.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True, name="wandb-watch")
        self.deadline = math.inf

    def run(self) -> None:
        """Look once a second."""
        while True:
            time.sleep(min(1.0, CALL_TIMEOUT / 4))
            if time.monotonic() > self.deadline:
                self.deadline = math.inf
                self._kill()

    def _kill(self) -> None:
        from wandb.sdk import wandb_setup

        # private: wandb has no way to end a process that does not answer. None where another program started it
        service = wandb_setup.singleton()._connection
        if service is not None and service._proc is not None:
            print("W&B   wandb's own process does not answer and is killed", flush=True)
            service._proc._process.kill()

    def allow(self, seconds: float) -> None:
        """Begin to count."""
        self.deadline = time.monotonic() + seconds

    @contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Allow so many seconds for what is done within; an outer limit is not raised."""
        before = self.deadline
        self.deadline = min(before, time.monotonic() + seconds)
        try:
            yield
        finally:
            self.deadline = before


@cache
def _watch() -> _Watch:
    watch = _Watch()
    watch.start()
    return watch


@cache
def _skip_launch() -> None:
    """Keep wandb from importing W&B Launch to look for inputs of a job: 0.9 CPU seconds, half of what its start costs.

    Inputs are staged by functions of that package, so there are none before it is imported.
    """
    from wandb.sdk.wandb_run import Run

    # private: wandb 0.31 has no setting for it (its issue 5440 is about the slow start). None where wandb has changed
    apply_inputs = getattr(Run, "_detect_and_apply_job_inputs", None)
    if apply_inputs is None:
        return

    def apply_staged_inputs(run: Run) -> None:
        if "wandb.sdk.launch" in sys.modules:
            apply_inputs(run)

    Run._detect_and_apply_job_inputs = apply_staged_inputs  # type: ignore[assignment,method-assign]


def choose_mode() -> tuple[str, str]:
    """Return `online` where there are a key and a server that takes it, else `offline` and why.

    It asks nothing at the terminal, and gives a server ten seconds, wandb's own limit.
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


def finish_tracking(exit_code: int) -> None:
    """End the W&B run of this process, where there is one."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        files = Path(wandb.run.dir).parent
        folder = str(files.parent)
        timeout = wandb.run.settings.finish_timeout or math.inf  # a logger other than ours may have set none
        try:
            with _watch().limit(timeout + GRACE):
                wandb.finish(exit_code)
        except Exception as error:  # wandb's own process is gone, or was frozen and is now
            reason = " ".join(f"{type(error).__name__} {error}".split())
            print(f"W&B   the end was not logged ({reason}); what is on disk: wandb sync {os.path.relpath(files)}")
            with suppress(Exception), _watch().limit(CALL_TIMEOUT):  # else wandb does it at exit, with a traceback
                wandb.teardown()
        if os.environ.get("WANDB_DATA_DIR") == folder:  # set by `start`
            del os.environ["WANDB_DATA_DIR"]


def git_state() -> dict[str, Any]:
    """Return the `commit` of this project and whether files differ from it (`dirty`); nothing outside of git."""
    git = ["git", "-C", str(PROJECT)]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, stderr=subprocess.DEVNULL).strip()
        return {"commit": commit, "dirty": bool(subprocess.check_output([*git, "status", "--porcelain"]).strip())}
    except (OSError, subprocess.CalledProcessError):
        return {}
