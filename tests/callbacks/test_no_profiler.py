"""A run that measures nothing trains as any other, and a real profiler is one overlay away."""

from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.profilers import Profiler, SimpleProfiler

from leyden import PROJECT
from leyden.callbacks.no_profiler import NoProfiler
from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.models.mlp import MLP


def weights(profiler: Profiler | None) -> torch.Tensor:
    torch.manual_seed(0)
    model = MLP(input_shape=(10,), num_classes=10, optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        profiler=profiler,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, SyntheticClustersDataModule(num_samples=300, val_size=100, batch_size=64))
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_run_without_a_profiler_ends_in_the_same_weights() -> None:
    assert torch.equal(weights(NoProfiler()), weights(None))


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
