"""What is left out of a training step is of no use to anyone, and the training stays the same."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.profilers import SimpleProfiler

from leyden import PROJECT
from leyden.callbacks.overhead import STEP_HOOKS, NoProfiler, drop_idle_hooks
from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.models.mlp import MLP


class Counter(Callback):
    """Counts the batches it hears of."""

    batches = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches += 1


class Started(Counter):
    """Hears of a batch's start as well."""

    starts = 0

    def on_train_batch_start(self, *_: Any) -> None:
        self.starts += 1


def weights(drop: bool, **options: Any) -> tuple[torch.Tensor, list[Callback]]:
    torch.manual_seed(0)
    model = MLP(input_shape=(10,), num_classes=10, optimizer=partial(torch.optim.SGD, lr=0.1))
    callbacks = [Callback(), Counter(), Started()]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_epochs=1, enable_checkpointing=False, accelerator="cpu", callbacks=callbacks, **quiet, **options
    )
    if drop:
        drop_idle_hooks(trainer.callbacks)
    trainer.fit(model, SyntheticClustersDataModule(num_samples=300, val_size=100, batch_size=64))
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), callbacks


def test_a_callback_hears_of_what_it_asks_for_and_of_nothing_else() -> None:
    _, (idle, counter, started) = weights(drop=True)
    assert [getattr(idle, hook) for hook in STEP_HOOKS] == [None] * 6
    assert counter.batches == started.batches == started.starts == 4  # type: ignore[attr-defined]
    assert counter.on_train_batch_start is None


def test_a_run_without_overhead_ends_in_the_same_weights() -> None:
    plain, _ = weights(drop=False)
    spared, _ = weights(drop=True, profiler=NoProfiler())
    assert spared.equal(plain)


def test_lightning_passes_over_each_of_the_hooks_that_are_dropped() -> None:
    names = [name for name in vars(Callback) if name.startswith("on_")]
    in_a_step = [name for name in names if "train_batch" in name or "backward" in name or "zero_grad" in name]
    assert {*in_a_step, "on_before_optimizer_step"} == set(STEP_HOOKS)


def test_every_run_is_unprofiled_by_default_and_profiled_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leyden.cli.main import main

    monkeypatch.chdir(tmp_path)
    vectors, overlay = PROJECT / "configs" / "mlp_vectors.yaml", PROJECT / "configs" / "with" / "profile.yaml"
    few = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--test_after_fit", "false"]
    reported = []
    describe = SimpleProfiler.describe
    monkeypatch.setattr(SimpleProfiler, "describe", lambda self: (reported.append(self.summary()), describe(self)))
    assert main(["fit", "--config", str(vectors), *few]) == 0
    assert not reported
    (config,) = tmp_path.glob("runs/*/*/config.yaml")
    profiler = yaml.safe_load(config.read_text())["trainer"]["profiler"]
    assert profiler["class_path"] == f"{NoProfiler.__module__}.{NoProfiler.__name__}"
    assert main(["fit", "--config", str(vectors), "--config", str(overlay), *few]) == 0
    assert "MLP.optimizer_step" in reported[0]
