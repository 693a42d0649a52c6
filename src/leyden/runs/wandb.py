"""Log to Weights & Biases, offline if it cannot be reached."""

import os
import shlex
import sys
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from leyden.runs.directory import short_path
from leyden.runs.metrics import best_scores, read_rows, run_title
from leyden.runs.wandb_process import never_failing
from leyden.runs.wandb_start import git_state, last_step_on_disk, start_run


@dataclass
class WandbOptions:
    """How a run appears in Weights & Biases.

    Args:
        project: Project; null takes WANDB_PROJECT, or else `leyden`.
        entity: User or team; null takes that of the key.
        name: Name of the run; null takes its experiment and time.
        group: Group of related runs.
        job_type: Kind of the run; null takes the command, `fit` or `test`.
        tags: Tags.
        notes: Notes.
        mode: `online`, `offline` or `disabled`; null takes WANDB_MODE, or else is online with a key and a server that
            accepts it, and offline otherwise.
        log_model: Whether to upload best.ckpt and last.ckpt as an artifact with the aliases best and last.
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
    """Lightning's WandbLogger, except that it never stops a run, and a resumed run stays one W&B run.

    The W&B run's id is stored in `wandb_id` in the run's directory. A resumed run continues it: steps that W&B already
    has are not logged again, and steps that it lost by a kill are logged from `metrics.csv`.

    The W&B run starts with the first logged value, so that a run that is refused before leaves none.

    Args:
        save_dir: The run's directory; filled in by the command line.
        options: How the run appears; filled in from `--wandb`.
    """

    def __init__(self, save_dir: str = ".", options: WandbOptions | None = None) -> None:
        self.directory = Path(save_dir)
        self.options = asdict(options or WandbOptions())
        self.log_model = self.options.pop("log_model")
        self.mode = self.options.pop("mode") or os.environ.get("WANDB_MODE")
        project = self.options["project"] or os.environ.get("WANDB_PROJECT", "leyden")
        name = self.options["name"] or os.environ.get("WANDB_NAME", run_title(self.directory.absolute()))
        self.options |= {"project": project, "name": name, "tags": self.options["tags"] or None}  # None: WANDB_TAGS
        super().__init__(save_dir=save_dir, project=project, name=name)
        self.config: dict[str, Any] = {}  # of the run; set by the command line
        self.run: Any = None  # W&B's; set by `start`
        self.run_id: str | None = None
        self.last_logged_step = -1  # that W&B has from an earlier part of this run
        self.last_step = 0
        self._logged_pictures: set[tuple[str, int]] = set()
        self.model_checkpoint: Checkpoint | None = None  # knows the best checkpoint; set when training starts

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run.

        Raises:
            AttributeError: It has not started. Lightning asks with `hasattr` before anything has been checked.
        """
        if self.run is None:
            raise AttributeError("the W&B run starts with training, or with the first logged value")
        return self.run

    @property
    def version(self) -> str | None:
        """The W&B run's id; None before the start."""
        return self.run_id

    @rank_zero_only
    def start(self) -> None:
        """Start or continue the W&B run, online if possible and otherwise offline."""
        if self.run is not None:
            return
        file = self.directory / "wandb_id"
        # the agent of a sweep sets the id
        saved = file.read_text(encoding="utf-8") if file.exists() else os.environ.get("WANDB_RUN_ID")
        self.run_id = saved or uuid.uuid4().hex[:12]
        file.write_text(self.run_id, encoding="utf-8")
        # else wandb stores tables and checkpoints of an offline run in the home directory until they are uploaded
        os.environ.setdefault("WANDB_DATA_DIR", str(self.directory.absolute() / "wandb"))
        options = {**self.options, "config": {**self.config, "git": git_state()}}
        self.run, reason = start_run(self.mode, self.log_model, dir=self.save_dir, id=self.run_id, **options)
        if self.run.disabled:
            return
        if self.run.offline:
            self.last_logged_step = last_step_on_disk(self.directory, self.run)
            print(f"W&B   offline ({reason}); to upload the run: {self.where}", flush=True)
        else:
            self.last_logged_step = self.run.starting_step - 1 if self.run.resumed else -1
            print(f"W&B   {self.where}", flush=True)
        file = self.directory / "metrics.csv"
        for step, row in read_rows(file).items() if file.exists() else ():  # those that W&B lacks
            self.log_metrics(row, step)

    @property
    def where(self) -> str:
        """Address of the run, or the command that uploads it; empty before the start."""
        if self.run is None or self.run.disabled:
            return ""
        folder = shlex.quote(f"{short_path(self.directory)}/wandb")
        return f"wandb sync {folder}/offline-run-*" if self.run.offline else str(self.run.url)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Add to the run's configuration."""
        self.start()
        with never_failing("the configuration"):
            super().log_hyperparams(params)

    @rank_zero_only
    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Log values; values of the same step form one row."""
        self.start()
        step = self.last_step if step is None else step
        if step > self.last_logged_step:
            self.last_step = max(step, self.last_step)
            with never_failing(f"step {step}"):
                self.run.log({**metrics, "trainer/global_step": step}, step=step)
                return
            self.last_logged_step = sys.maxsize  # log nothing more: wandb's own process is dead

    def log_table(self, key: str, *args: Any, **kwargs: Any) -> None:
        """Log a table."""
        with never_failing(key):
            super().log_table(key, *args, **kwargs)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Log the best scores, the pictures in the run's directory and, if requested, the checkpoints."""
        if self.run is None or status != "success":
            return
        with never_failing("what the run ended with"):
            best = best_scores(self.model_checkpoint, self.directory)
            self.run.summary.update({f"best/{name}": value for name, value in best.items()})
            for file in sorted(self.directory.glob("*.png")):
                picture = (file.name, file.stat().st_mtime_ns)
                if picture not in self._logged_pictures:
                    self._logged_pictures.add(picture)
                    self.log_image(file.stem, [str(file)], self.last_step, caption=[run_title(self.directory)])
            if self.log_model:
                self._log_checkpoints()

    def _log_checkpoints(self) -> None:
        import wandb

        for alias in ("last", "best"):  # W&B stores identical files as one version with both aliases
            file = self.directory / "checkpoints" / f"{alias}.ckpt"
            if file.exists():
                with never_failing(file.name):
                    artifact = wandb.Artifact(f"model-{self.run_id}", type="model")
                    artifact.add_file(str(file), name="model.ckpt")
                    self.run.log_artifact(artifact, aliases=[alias])
        self.log_model = False  # the test after fit has the same checkpoints
