"""The tasks: losses, epoch metrics and optimizer set-up, each against an independent computation."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import ReduceLROnPlateau
from sklearn.metrics import accuracy_score, log_loss
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from leyden.data.synthetic import SyntheticClustersDataModule, SyntheticRegressionDataModule
from leyden.errors import UserError
from leyden.models.linear_regression import LinearRegression
from leyden.models.mlp import MLP
from leyden.models.tasks import Classifier, NetworkClassifier


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
            self.seen.append(int(self.metrics("val")["loss"].weight))  # type: ignore[arg-type]
            super().on_validation_epoch_end()

        seen: list[int] = []  # noqa: RUF012

    trainer(max_epochs=3, num_sanity_val_steps=0).fit(Recorder(input_shape=(10,), num_classes=10), vectors())
    assert Recorder.seen == [100, 100, 100]


def test_a_network_emits_logits_whose_cross_entropy_is_that_of_the_written_formula() -> None:
    model = MLP(input_shape=(10,), num_classes=4)
    logits, y = torch.tensor([[1.0, 2.0, 0.0, -1.0], [0.5, 0.5, 0.5, 0.5]]), torch.tensor([1, 3])
    expected = [-math.log(math.exp(2) / (math.e + math.exp(2) + 1 + 1 / math.e)), math.log(4)]
    assert model.loss(logits, y).item() == pytest.approx(sum(expected) / 2)


def test_the_regression_loss_is_the_mean_over_samples_and_values() -> None:
    model = LinearRegression(input_shape=(3,), out_features=2)
    loss = model.loss(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
    assert loss.item() == pytest.approx((0 + 4 + 9 + 0) / 4)


def test_only_parameters_that_require_a_gradient_reach_the_optimizer() -> None:
    model = MLP(input_shape=(10,), num_classes=10, optimizer=partial(torch.optim.SGD, lr=0.1))
    model.network.hidden1.requires_grad_(False)
    (group,) = model.configure_optimizers().param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in model.network.head.parameters()]


def test_a_scheduler_steps_once_an_epoch() -> None:
    rates = []

    class Recorder(MLP):
        def on_train_epoch_start(self) -> None:
            rates.append(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    model = Recorder(
        input_shape=(10,),
        num_classes=10,
        optimizer=partial(torch.optim.SGD, lr=1.0),
        lr_scheduler=partial(StepLR, step_size=2, gamma=0.1),
    )
    trainer(max_epochs=5).fit(model, vectors())
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01])


def test_a_plateau_scheduler_watches_what_it_is_told_to() -> None:
    model = MLP(
        input_shape=(10,),
        num_classes=10,
        optimizer=partial(torch.optim.SGD, lr=0.0),  # nothing improves
        lr_scheduler=partial(ReduceLROnPlateau, monitor="val/loss", patience=0),
    )
    run = trainer(max_epochs=3)
    run.fit(model, vectors())
    assert run.lr_scheduler_configs[0].monitor == "val/loss"
    assert run.lr_scheduler_configs[0].scheduler.num_bad_epochs == 0  # it has acted on the epochs without progress


def test_one_step_of_training_is_one_step_of_plain_torch() -> None:
    data = SyntheticRegressionDataModule(num_samples=40, val_size=8, batch_size=32)
    model = LinearRegression(input_shape=(10,), out_features=1, optimizer=partial(torch.optim.SGD, lr=0.05))
    layer = model.network[1]
    assert isinstance(layer, nn.Linear)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    trainer().fit(model, data)
    x, y = data.train_set.x[data.train_set.indices], data.train_set.labels
    error = x @ weight.T + bias - y  # gradient of the mean squared error, by hand
    torch.testing.assert_close(layer.weight, weight - 0.05 * 2 * (error.T @ x) / len(x))
    torch.testing.assert_close(layer.bias, bias - 0.05 * 2 * error.mean(dim=0))


def test_a_task_without_its_kind_of_target_says_so() -> None:
    with pytest.raises(UserError, match="MLP needs class labels"):
        MLP(input_shape=(10,), num_classes=None)
    with pytest.raises(UserError, match="LinearRegression needs real targets"):
        LinearRegression(input_shape=(10,), out_features=None)


@pytest.mark.parametrize(
    ("model", "again"),
    [
        (MLP(input_shape=(10,), num_classes=10, hidden_sizes=(7, 5), activation=nn.Tanh), {}),
        (MLP(input_shape=(10,), num_classes=10, activation=partial(nn.LeakyReLU, negative_slope=0.3)), {}),
        (
            NetworkClassifier(network=nn.Linear(10, 10), input_shape=(10,), num_classes=10),
            {"network": nn.Linear(10, 10)},  # a whole module has to be given again
        ),
    ],
    ids=["class", "partial", "module"],
)
def test_a_python_run_reloads_with_weights_only(model: Classifier, again: dict[str, nn.Module], tmp_path: Path) -> None:
    run = trainer(max_steps=1)
    run.fit(model, vectors())
    run.save_checkpoint(tmp_path / "some.ckpt")
    loaded = type(model).load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True, **again)
    x = torch.randn(5, 10)
    assert torch.equal(loaded(x), model(x))


def test_a_network_of_ones_own_is_trained_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from leyden.cli.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(
        "model:\n  class_path: NetworkClassifier\n  init_args:\n    network:\n"
        "      class_path: torch.nn.Linear\n      init_args: {in_features: 10, out_features: 10}\n"
        "data: SyntheticClustersDataModule\ntrainer: {max_epochs: 1}\n"
    )
    assert main(["fit", "--config", "own.yaml"]) == 0
    (file,) = tmp_path.glob("runs/own/*/checkpoints/best.ckpt")
    assert isinstance(NetworkClassifier.load_from_checkpoint(file, weights_only=True).network, nn.Linear)


def test_tasks_are_lightning_modules_with_nothing_hidden_in_their_state() -> None:
    model = MLP(input_shape=(10,), num_classes=10)
    model.metrics("train")["acc"].update(torch.rand(4, 10), torch.zeros(4, dtype=torch.int64))
    assert isinstance(model, LightningModule)
    assert set(model.state_dict()) == {f"network.{name}" for name in model.network.state_dict()}


def scores_of_a_run(monkeypatch: pytest.MonkeyPatch, held: int, look: bool = False) -> dict[str, float]:
    class Looking(MLP):
        def on_train_batch_end(self, *_: Any) -> None:
            if look:
                self.metrics("train")

    monkeypatch.setattr("leyden.models.tasks.HELD_VALUES", held)
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
            seen.append(int(self.metrics("train")["loss"].weight))  # type: ignore[arg-type]

    trainer().fit(Looking(input_shape=(10,), num_classes=10), vectors())
    assert seen == [64, 128, 192, 200]


def test_what_waits_for_the_metrics_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    values = []

    class Looking(MLP):
        def on_train_batch_end(self, *_: Any) -> None:
            values.append(sum(output.numel() for output, _, _ in self._held.get("train", [])))

    monkeypatch.setattr("leyden.models.tasks.HELD_VALUES", 1000)
    trainer().fit(Looking(input_shape=(10,), num_classes=10), vectors())
    assert values == [640, 0, 640, 720]  # 64 x 10 a batch, emptied at 1 000; the last batch is of 8 samples


def test_the_name_that_is_set_at_each_hook_skips_what_modules_do_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_slowly = []
    usual = nn.Module.__setattr__

    def slowly(self: nn.Module, name: str, value: Any) -> None:
        set_slowly.append(name)
        usual(self, name, value)

    model = MLP(input_shape=(10,), num_classes=10)
    monkeypatch.setattr(nn.Module, "__setattr__", slowly)
    trainer().fit(model, vectors())
    assert "_trainer" in set_slowly
    assert "_current_fx_name" in vars(model)  # Lightning's own name, private
    assert "_current_fx_name" not in set_slowly
    model.extra = nn.Linear(1, 1)
    assert "extra.weight" in model.state_dict()
