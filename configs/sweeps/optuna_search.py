"""A sweep's search space without an account: Optuna draws, SQLite remembers, the validation prunes.

python configs/sweeps/optuna_search.py configs/sweeps/convnet_digits.yaml --trials 20

Needs the extra `search`. Stopped and started again, it goes on to the number of trials that was asked for. A `grid` is
gone through in full, anything else by Optuna's own sampler.
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
    """Tell Optuna the score of each epoch, and stop where it is hopeless."""

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor
        self.scores: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report."""
        if not trainer.sanity_checking:
            self.scores.append(float(trainer.callback_metrics[self.monitor]))
            self.trial.report(self.scores[-1], trainer.current_epoch)
            trainer.should_stop = trainer.should_stop or self.trial.should_prune()


class Search(CLI):
    """`leyden fit` with one more callback."""

    def __init__(self, args: list[str], report: Report) -> None:
        self.report = report
        super().__init__(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add it."""
        trainer = super().instantiate_trainer(**kwargs)
        trainer.callbacks.append(self.report)  # type: ignore[attr-defined]
        return trainer


def draw(trial: optuna.Trial, name: str, space: dict[str, Any]) -> Any:
    """Draw one parameter from its space, written as W&B writes it."""
    if "value" in space:
        return space["value"]
    if "values" in space:
        return trial.suggest_categorical(name, space["values"])
    low, high = space["min"], space["max"]
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high)
    return trial.suggest_float(name, low, high, log=space.get("distribution") == "log_uniform_values")


def search(sweep: dict[str, Any], storage: str, name: str, trials: int, words: list[str]) -> optuna.Study:
    """Run trials until there are as many as asked for.

    Args:
        sweep: A sweep's configuration.
        storage: Where Optuna remembers, `sqlite:///FILE`.
        name: The study's name.
        trials: How many in all, those of earlier calls among them.
        words: More words for `leyden fit`.
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
    command = [word for word in sweep["command"] if not word.startswith("${")][1:]  # less `leyden`

    def objective(trial: optuna.Trial) -> float:
        report = Report(trial, sweep["metric"]["name"])
        drawn = [f"--{key}={draw(trial, key, space)}" for key, space in parameters.items()]
        try:
            Search([*command, *drawn, *words], report)
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
    parser.add_argument("--trials", type=int, default=20, help="how many in all")
    given, words = parser.parse_known_args()
    Path("runs").mkdir(exist_ok=True)
    storage = f"sqlite:///runs/{given.sweep.stem}.db"
    study = search(yaml.safe_load(given.sweep.read_text()), storage, given.sweep.stem, given.trials, words)
    print(f"best  {study.best_value:.4g} with {study.best_params}")
