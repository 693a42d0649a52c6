"""Search the space of a sweep with Optuna, without an account; the state is stored in SQLite.

python configs/sweeps/optuna_search.py configs/sweeps/convnet_digits.yaml --trials 20

Needs the extra `search`. If it is stopped and started again, it continues until `--trials` trials are done in total. A
`grid` is searched completely, any other method with Optuna's default sampler. Other arguments go to `leyden fit`.
"""

import argparse
from pathlib import Path
from typing import Any

import optuna
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from leyden.cli.cli import CLI
from leyden.runs.wandb_start import finish_tracking


class Report(Callback):
    """Report the score of each epoch to Optuna, and stop the run if Optuna prunes the trial."""

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor
        self.scores: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the score of the epoch."""
        if not trainer.sanity_checking:
            self.scores.append(float(trainer.callback_metrics[self.monitor]))
            self.trial.report(self.scores[-1], trainer.current_epoch)
            trainer.should_stop = trainer.should_stop or self.trial.should_prune()


class Search(CLI):
    """`leyden fit` with an additional callback."""

    def __init__(self, args: list[str], report: Report) -> None:
        self.report = report
        super().__init__(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Return the Trainer with the callback added."""
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.append(self.report)  # type: ignore[attr-defined]
        return trainer


def draw(trial: optuna.Trial, name: str, space: dict[str, Any]) -> Any:
    """Draw one parameter from its space, given in the format of W&B."""
    if "value" in space:
        return space["value"]
    if "values" in space:
        return trial.suggest_categorical(name, space["values"])
    low, high = space["min"], space["max"]
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=space.get("distribution") == "log_uniform_values")


def search(sweep: dict[str, Any], storage: str, name: str, trials: int, args: list[str]) -> optuna.Study:
    """Run trials until the requested number is done.

    Args:
        sweep: Configuration of the sweep.
        storage: Optuna's database, `sqlite:///FILE`.
        name: Name of the study.
        trials: Number of trials in total, including those of earlier calls.
        args: More arguments for `leyden fit`.

    Returns:
        The study with all its trials.
    """
    parameters = sweep["parameters"]
    grid = {key: space["values"] for key, space in parameters.items()} if sweep["method"] == "grid" else None
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction=sweep["metric"]["goal"],
        sampler=optuna.samplers.GridSampler(grid) if grid else None,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
        load_if_exists=True,
    )
    command = [word for word in sweep["command"] if not word.startswith("${")][1:]  # without `leyden`

    def objective(trial: optuna.Trial) -> float:
        report = Report(trial, sweep["metric"]["name"])
        drawn = [f"--{key}={draw(trial, key, space)}" for key, space in parameters.items()]
        try:
            Search([*command, *drawn, *args], report)
        finally:
            finish_tracking(0)
        if trial.should_prune():
            raise optuna.TrialPruned
        return (min if sweep["metric"]["goal"] == "minimize" else max)(report.scores)

    done = sum(trial.state.is_finished() for trial in study.trials)
    study.optimize(objective, n_trials=max(0, trials - done))
    return study


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="a file of configs/sweeps/")
    parser.add_argument("--trials", type=int, default=20, help="number of trials in total")
    options, fit_args = parser.parse_known_args()
    Path("runs").mkdir(exist_ok=True)
    storage = f"sqlite:///runs/{options.sweep.stem}.db"
    study = search(yaml.safe_load(options.sweep.read_text()), storage, options.sweep.stem, options.trials, fit_args)
    print(f"best  {study.best_value:.4g} with {study.best_params}")
