"""What this project relies on among the private names of Lightning and torchmetrics.

A new version that breaks one fails here, with a sentence that names the function to change.
"""

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric
from wandb.sdk import wandb_setup
from wandb.sdk.wandb_run import Run

from leyden import lightning_internals
from leyden.lightning_internals import (
    end_restart,
    epoch_results,
    loaders_not_called,
    rendezvous_timeout,
    send_worker_errors,
    set_update_count,
    starts_by_multiprocessing,
)


@contextmanager
def contract(function: object, breach: str) -> Iterator[None]:
    """Turns whatever is raised into one sentence."""
    try:
        yield
    except Exception as error:
        name = getattr(function, "__name__", "")
        pytest.fail(f"leyden.lightning_internals.{name}: {breach} ({error!r})", pytrace=False)


def fit(model: LightningModule, callback: Callback, **kwargs: Any) -> None:
    """Trains in silence."""
    resume = kwargs.pop("ckpt_path", None)
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(accelerator="cpu", callbacks=callback, enable_model_summary=False, **silent, **kwargs)  # type: ignore[arg-type]
    trainer.fit(model, ckpt_path=resume)


def test_the_sums_of_what_an_epoch_has_logged_can_be_read() -> None:
    class Model(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("mean", float(batch_idx), on_epoch=True, batch_size=2)
            self.log("step", 1.0, on_step=True, on_epoch=False)
            return super().training_step(batch, batch_idx)

    class Reader(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            self.read = {key: dict(item.metric_state) for key, item in epoch_results(trainer).items()}

    reader = Reader()
    with contract(epoch_results, "the running sums of self.log(on_epoch=True) are no longer where they were"):
        fit(Model(), reader, max_epochs=1, limit_train_batches=4, limit_val_batches=0)
        assert reader.read == {
            "training_step.mean": {"value": torch.tensor(12.0), "cumulated_batch_size": torch.tensor(8)}
        }


@pytest.mark.parametrize("max_steps", [-1, 8])
def test_a_resumed_epoch_can_be_made_like_any_other(max_steps: int, tmp_path: Path) -> None:
    class Saver(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    class Ender(Callback):
        def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
            before.append(trainer.fit_loop.restarting)
            inner = trainer.fit_loop.epoch_loop.restarting
            end_restart(trainer)
            assert not trainer.fit_loop.restarting
            assert trainer.fit_loop.epoch_loop.restarting == inner

    before: list[bool] = []
    short = {"max_epochs": 2, "max_steps": max_steps, "limit_train_batches": 4, "limit_val_batches": 0}
    fit(BoringModel(), Saver(), **short)
    with contract(end_restart, "Lightning no longer marks a resumed epoch as it did; is the function still needed?"):
        fit(BoringModel(), Ender(), **short, ckpt_path=tmp_path / "middle.ckpt")
        assert before == [True, False]


def test_the_count_of_updates_can_be_restored() -> None:
    metric = MeanMetric()
    with contract(set_update_count, "torchmetrics no longer keeps the count of updates where it did"):
        set_update_count(metric, 3)
        assert metric.update_count == 3
        assert metric.update_called


class Unsendable(Dataset[object]):
    """Samples that a worker cannot send."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> object:
        return lambda: index


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="workers are not forked")
def test_a_worker_that_cannot_send_a_batch_raises_in_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queue, "_on_queue_feeder_error", Queue._on_queue_feeder_error)  # type: ignore[attr-defined]
    send_worker_errors()
    loader = DataLoader(Unsendable(), num_workers=1, collate_fn=list, timeout=60, multiprocessing_context="fork")
    errors = []
    try:
        list(loader)
    except Exception as error:
        errors.append(str(error))
    assert any("in DataLoader worker process 0" in error for error in errors), (
        "python or torch no longer raise in the run what the thread of a worker raises when it sends a batch"
    )


def test_torch_unscales_before_clipping_if_a_fused_optimizer_says_so() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight], fused=True)
    assert getattr(optimizer, "_step_supports_amp_scaling", None) is True, (
        "torch has renamed Optimizer._step_supports_amp_scaling: FusedClipping has no effect"
    )
    lightning_internals.unscale_before_clipping(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(weight.sum()).backward()
    scaler.unscale_(optimizer)
    assert weight.grad is not None
    scaler.step(optimizer)
    assert weight.grad.tolist() == [1.0, 1.0], "torch divides the gradients of a fused optimizer twice"


def test_wandb_still_has_the_process_that_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    singleton = wandb_setup.singleton()
    assert hasattr(singleton, "_connection"), "wandb has moved the connection to its process: it cannot be killed"
    killed = []

    class Service:
        class _proc:  # noqa: N801
            class _process:  # noqa: N801
                kill = staticmethod(lambda: killed.append(True))

    monkeypatch.setattr(singleton, "_connection", None)
    assert not lightning_internals.kill_wandb_service()
    monkeypatch.setattr(singleton, "_connection", Service)
    assert lightning_internals.kill_wandb_service()
    assert killed == [True]


def test_wandb_applies_inputs_of_a_job_only_once_launch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "_detect_and_apply_job_inputs"
    assert hasattr(Run, name), f"wandb has renamed Run.{name}: each start imports W&B Launch, 0.9 CPU seconds"
    applied: list[object] = []
    monkeypatch.setattr(Run, name, applied.append)
    lightning_internals.skip_wandb_launch.__wrapped__()
    monkeypatch.delitem(sys.modules, "wandb.sdk.launch", raising=False)
    getattr(Run, name)("first")
    monkeypatch.setitem(sys.modules, "wandb.sdk.launch", os)
    getattr(Run, name)("second")
    assert applied == ["second"]


def test_strategies_that_spawn_are_told_from_those_that_start_commands() -> None:
    def trainer(strategy: str) -> Trainer:
        return Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False, enable_checkpointing=False)

    with contract(starts_by_multiprocessing, "Lightning's launchers have changed: ddp_spawn is no longer refused"):
        assert starts_by_multiprocessing(trainer("ddp_spawn"))
        assert not starts_by_multiprocessing(trainer("ddp"))


def test_a_strategy_keeps_its_timeout_where_it_is_read() -> None:
    strategy = DDPStrategy(timeout=timedelta(minutes=7))
    trainer = Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False, enable_checkpointing=False)
    with contract(rendezvous_timeout, "strategies keep their timeout elsewhere: a wrong one would be printed"):
        assert rendezvous_timeout(trainer) == timedelta(minutes=7)


def test_a_data_module_is_formatted_without_calling_its_loaders() -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> Any:
            raise AssertionError

    with contract(loaders_not_called, "str(datamodule) calls the loaders in spite of it"):
        with loaders_not_called():
            str(Data())
        assert LightningDataModule.__str__ is not object.__str__
