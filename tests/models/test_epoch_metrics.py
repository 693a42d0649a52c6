"""Metrics of an epoch against those of all its samples at once."""

from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.metrics import accuracy_score, log_loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from leyden.data.synthetic import SyntheticClustersDataModule
from leyden.models.mlp import MLP
from leyden.models.tasks import NetworkClassifier


def trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**{"max_epochs": 1, "enable_checkpointing": False, "accelerator": "cpu", **quiet, **options})


def vectors() -> SyntheticClustersDataModule:
    return SyntheticClustersDataModule(num_samples=300, val_size=100, batch_size=64)  # 64 + 36: an uneven last batch


def test_scores_are_exact_over_all_samples_also_with_a_smaller_last_batch() -> None:
    data = vectors()
    model = MLP(input_shape=(10,), num_classes=10)
    run = trainer()
    run.validate(model, data, verbose=False)
    with torch.no_grad():
        probabilities = model(data.val_set.x[data.val_set.indices]).softmax(dim=1)
    y = data.val_set.labels
    assert run.callback_metrics["val/acc"].item() == pytest.approx(accuracy_score(y, probabilities.argmax(dim=1)))
    assert run.callback_metrics["val/loss"].item() == pytest.approx(
        log_loss(y, probabilities, labels=range(10)), rel=1e-5
    )


def test_the_mean_of_batch_accuracies_would_have_been_wrong() -> None:
    x = torch.eye(2)[[0] * 4 + [1]]  # five samples: the first four are guessed right, the fifth wrong
    y = torch.tensor([0, 0, 0, 0, 0])
    model = NetworkClassifier(network=nn.Identity(), input_shape=(2,), num_classes=2)
    run = trainer()
    run.test(model, DataLoader(TensorDataset(x, y), batch_size=4), verbose=False)
    assert run.callback_metrics["test/acc"].item() == pytest.approx(4 / 5)  # not (1 + 0) / 2


def test_metrics_start_anew_every_epoch() -> None:
    class Recorder(MLP):
        def on_validation_epoch_end(self) -> None:
            self.flush_metrics("val")
            self.seen.append(int(self.metrics("val")["loss"].weight))  # type: ignore[arg-type]
            super().on_validation_epoch_end()

        seen: list[int] = []  # noqa: RUF012

    trainer(max_epochs=3, num_sanity_val_steps=0).fit(Recorder(input_shape=(10,), num_classes=10), vectors())
    assert Recorder.seen == [100, 100, 100]


def scores_of_a_run(monkeypatch: pytest.MonkeyPatch, held: int, look: bool = False) -> dict[str, float]:
    class Looking(MLP):
        def on_train_batch_end(self, *_: Any) -> None:
            if look:
                self.flush_metrics("train")

    monkeypatch.setattr("leyden.models.epoch_metrics.MAX_WAITING_VALUES", held)
    torch.manual_seed(0)
    model = Looking(input_shape=(10,), num_classes=10, optimizer=partial(torch.optim.SGD, lr=0.1))
    run = trainer(max_epochs=2)
    run.fit(model, SyntheticClustersDataModule(num_samples=800, val_size=100, batch_size=7))
    return {name: score.item() for name, score in run.callback_metrics.items() if name != "train/loss_step"}


def test_scores_do_not_depend_on_when_they_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    each_batch = scores_of_a_run(monkeypatch, held=1)
    assert set(each_batch) == {"train/loss", "train/acc", "val/loss", "val/acc"}
    for held in (500, 2**18):
        assert scores_of_a_run(monkeypatch, held) == each_batch
    assert scores_of_a_run(monkeypatch, held=2**18, look=True) == each_batch


def test_metrics_cover_every_batch_so_far() -> None:
    seen = []

    class Looking(MLP):
        def on_train_batch_end(self, *_: Any) -> None:
            self.flush_metrics("train")
            seen.append(int(self.metrics("train")["loss"].weight))  # type: ignore[arg-type]

    trainer().fit(Looking(input_shape=(10,), num_classes=10), vectors())
    assert seen == [64, 128, 192, 200]


def test_few_batches_wait_for_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = []

    class Looking(MLP):
        def on_train_batch_end(self, *_: Any) -> None:
            samples.append(int(self.metrics("train")["loss"].weight))  # type: ignore[arg-type]

    monkeypatch.setattr("leyden.models.epoch_metrics.MAX_WAITING_VALUES", 1000)
    trainer().fit(Looking(input_shape=(10,), num_classes=10), vectors())
    assert samples == [0, 128, 128, 128]  # 64 x 10 values per batch; the last batch has 8 samples
