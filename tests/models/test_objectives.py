"""Losses and metrics that a configuration names: what they compute, and what is refused before anything trains."""

import csv
import inspect
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, r2_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric, Metric, MetricCollection, R2Score, SpearmanCorrCoef, classification, regression
from torchmetrics.wrappers import BootStrapper

from leyden.cli.main import main
from leyden.data.synthetic import SyntheticClustersDataModule, SyntheticRegressionDataModule
from leyden.errors import UserError
from leyden.models.linear_regression import LinearRegression
from leyden.models.mlp import MLP
from leyden.models.objectives import metric_name
from leyden.models.tasks import NetworkClassifier

VECTORS = str(Path(__file__).parents[2] / "configs" / "mlp_vectors.yaml")
IMAGES = str(Path(__file__).parents[2] / "configs" / "imagegpt_digits.yaml")
SHORT = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "3", "--trainer.enable_progress_bar", "false"]


def trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**{"max_epochs": 1, "enable_checkpointing": False, "accelerator": "cpu", **quiet, **options})


def test_metrics_of_a_classifier_are_those_of_all_samples() -> None:
    data = SyntheticClustersDataModule(num_samples=300, val_size=100, batch_size=64)
    model = MLP(
        input_shape=(10,),
        num_classes=10,
        metrics=[classification.MulticlassF1Score, partial(classification.MulticlassAUROC, average="weighted")],
    )
    run = trainer()
    run.validate(model, data, verbose=False)
    y = data.val_set.labels
    with torch.no_grad():
        p = model(data.val_set.x[data.val_set.indices]).double().softmax(dim=1)
    right = {
        "val/f1_score": f1_score(y, p.argmax(dim=1), average="macro"),
        "val/auroc": roc_auc_score(y, p, average="weighted", multi_class="ovr"),
    }
    assert set(run.callback_metrics) == {"val/loss", "val/acc", *right}
    for name, value in right.items():
        assert run.callback_metrics[name].item() == pytest.approx(value, rel=1e-6)


def test_metrics_of_a_regressor_of_one_value_are_given_vectors() -> None:
    data = SyntheticRegressionDataModule(num_samples=300, val_size=100, batch_size=64)
    model = LinearRegression(input_shape=(10,), out_features=1, metrics=[R2Score, SpearmanCorrCoef])
    run = trainer()
    run.validate(model, data, verbose=False)
    y = data.val_set.labels.double()
    with torch.no_grad():
        output = model(data.val_set.x[data.val_set.indices]).double()
    assert run.callback_metrics["val/r2_score"].item() == pytest.approx(r2_score(y, output))
    assert run.callback_metrics["val/spearman_corr_coef"].item() == pytest.approx(spearmanr(y, output).statistic)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        ("MulticlassF1Score", "f1_score"),
        ("MulticlassAUROC", "auroc"),
        ("MulticlassLogAUC", "log_auc"),
        ("MulticlassFBetaScore", "f_beta_score"),
        ("MulticlassMatthewsCorrCoef", "matthews_corr_coef"),
        ("R2Score", "r2_score"),
        ("KLDivergence", "kl_divergence"),
        ("Binary", "binary"),
    ],
)
def test_a_metric_is_logged_by_its_class_in_snake_case_without_its_task(cls: str, name: str) -> None:
    assert metric_name(type(cls, (MeanMetric,), {})()) == name


class FirstColumn(Metric):
    """A metric of one's own: the mean of the first logit."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, output: Tensor, y: Tensor) -> None:
        self.total += output[:, 0].sum()
        self.count += len(y)

    def compute(self) -> Tensor:
        return self.total / self.count


class Top2(classification.MulticlassAccuracy):
    """A second accuracy, by a name of its own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(top_k=2, average="micro", **kwargs)


def test_metrics_of_ones_own_work_and_those_that_inherit_are_filled_in_too() -> None:
    model = MLP(input_shape=(10,), num_classes=10, metrics=[FirstColumn, Top2, classification.MulticlassAccuracy])
    run = trainer()
    run.validate(model, SyntheticClustersDataModule(num_samples=300, val_size=100, batch_size=64), verbose=False)
    assert set(run.callback_metrics) == {f"val/{name}" for name in ("loss", "acc", "first_column", "top2", "accuracy")}
    assert run.callback_metrics["val/top2"] >= run.callback_metrics["val/acc"]


NEEDED = {"beta": 2.0, "threshold": 0.5, "p": 2.0}  # arguments that have no default
SEVERAL = re.compile("ConfusionMatrix|EER|LogAUC|At(Fixed|Spec|Sens)|Curve|ROC$|StatScores")  # numbers that they give
SCORES = [
    *(getattr(classification, name) for name in classification.__all__ if name.startswith("Multiclass")),
    *(getattr(regression, name) for name in regression.__all__ if name != "ContinuousRankedProbabilityScore"),
]


def model_of(cls: type[Metric]) -> MLP | LinearRegression:
    arguments = inspect.signature(cls).parameters
    metric: Any = partial(cls, **{name: value for name, value in NEEDED.items() if name in arguments})
    if "classification" in cls.__module__:
        return MLP(input_shape=(5,), num_classes=5, metrics=[metric])
    out_features = 3 if re.search("Similarity|Divergence", cls.__name__) else 1
    return LinearRegression(input_shape=(5,), out_features=out_features, metrics=[metric])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls", SCORES)
def test_the_saved_state_of_each_metric_of_torchmetrics_is_enough_to_go_on(cls: type[Metric], tmp_path: Path) -> None:
    if SEVERAL.search(cls.__name__.removesuffix("AUROC")):
        with pytest.raises(UserError, match=cls.__name__):
            model_of(cls)
        return
    model = model_of(cls)
    draw = torch.Generator().manual_seed(0)
    outputs = [
        torch.rand(size, *model.example_output_and_target()[0].shape[1:], generator=draw) for size in (40, 23, 31)
    ]
    if isinstance(model, MLP):
        targets = [torch.randint(5, (len(output),), generator=draw) for output in outputs]
    else:
        targets = [torch.rand(output.shape, generator=draw) for output in outputs]
    batches = [(output, y, torch.zeros(())) for output, y in zip(outputs, targets, strict=True)]

    def updated(split: str, batches: list[Any]) -> Metric:
        for batch in batches:
            model.update_metrics(split, *batch)
            model.flush_metrics(split)
        return list(model.metrics(split).values())[-1]

    torch.save(updated("killed", batches[:1]).metric_state, tmp_path / "state")
    for state, value in torch.load(tmp_path / "state", weights_only=True).items():
        setattr(updated("resumed", []), state, value)
    whole = updated("whole", batches).compute().float()
    assert torch.equal(updated("resumed", batches[1:]).compute().float(), whole)
    for batch in batches:
        model.update_metrics("at once", *batch)
    model.flush_metrics("at once")
    assert torch.equal(updated("at once", []).compute().float(), whole)


REFUSED_METRICS: dict[str, tuple[Any, str]] = {
    "a binary one": (classification.BinaryF1Score, "BinaryF1Score does not fit a logit for each class"),
    "one of real targets": (R2Score, "R2Score does not fit: .*same shape"),
    "one of texts": (partial(R2Score, multioutput="other"), "metrics: Invalid"),
    "a mean": (MeanMetric, "MeanMetric does not compare outputs with targets"),
    "a wrapper": (partial(BootStrapper, classification.MulticlassAccuracy(10)), "BootStrapper does not compare"),
    "a vector": (partial(classification.MulticlassF1Score, average="none"), "MulticlassF1Score gives more than one"),
    "a curve": (classification.MulticlassROC, "MulticlassROC gives more than one number"),
    "a matrix": (classification.MulticlassConfusionMatrix, "MulticlassConfusionMatrix gives more than one number"),
    "an instance": (classification.MulticlassF1Score(10), "is no class and no functools.partial"),
    "a collection": (MetricCollection([]), "is no class and no functools.partial"),
    "a number that is filled in": (partial(classification.MulticlassF1Score, num_classes=10), "leave num_classes"),
    "one that lacks an argument": (classification.MulticlassFBetaScore, "missing .* 'beta'"),
}


@pytest.mark.parametrize("kind", REFUSED_METRICS)
def test_a_metric_that_does_not_fit_is_refused_when_the_model_is_made(kind: str) -> None:
    metric, line = REFUSED_METRICS[kind]
    with pytest.raises(UserError, match=line):
        MLP(input_shape=(10,), num_classes=10, metrics=[metric])


@pytest.mark.parametrize(
    "metrics",
    [[classification.MulticlassF1Score] * 2, [type("Acc", (FirstColumn,), {})], [type("Loss", (R2Score,), {})]],
)
def test_a_name_is_given_to_one_metric_only(metrics: list[Any]) -> None:
    with pytest.raises(UserError, match="a name that is taken"):
        MLP(input_shape=(10,), num_classes=10, metrics=metrics)


@pytest.mark.parametrize(
    ("metric", "line"),
    [
        (classification.MulticlassF1Score, "num_classes"),
        (partial(regression.PearsonCorrCoef, num_outputs=3), "more than one number"),
        (regression.PearsonCorrCoef, "PearsonCorrCoef does not fit: .*num_outputs"),
    ],
)
def test_a_metric_that_does_not_fit_a_regressor_is_refused(metric: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        LinearRegression(input_shape=(10,), out_features=3, metrics=[metric])


@pytest.mark.parametrize("num_classes", [2, 4, 5, 10])
def test_losses_of_classes_are_used_in_every_split_as_they_are(num_classes: int) -> None:
    logits, y = torch.randn(7, num_classes), torch.arange(7) % num_classes
    smooth = partial(nn.CrossEntropyLoss, label_smoothing=0.2)
    for loss, right in (
        (smooth, F.cross_entropy(logits, y, label_smoothing=0.2)),
        (nn.MultiMarginLoss, F.multi_margin_loss(logits, y)),
    ):
        model = MLP(input_shape=(10,), num_classes=num_classes, loss=loss)
        assert model.train().loss(logits, y) == right
        assert model.eval().loss(logits, y) == right
    for wrong in (nn.MSELoss, nn.L1Loss, nn.BCEWithLogitsLoss, nn.KLDivLoss, nn.SoftMarginLoss):
        with pytest.raises(UserError, match="does not fit"):
            MLP(input_shape=(10,), num_classes=num_classes, loss=wrong)


@pytest.mark.parametrize("loss", [nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.SmoothL1Loss])
@pytest.mark.parametrize("out_features", [1, 3])
def test_losses_of_real_targets_are_trained_on(loss: type[nn.Module], out_features: int) -> None:
    data = SyntheticRegressionDataModule(out_features=out_features, num_samples=300, val_size=100, batch_size=64)
    model = LinearRegression(input_shape=(10,), out_features=out_features, loss=loss)
    run = trainer()
    run.fit(model, data)
    run.validate(model, data, verbose=False)
    with torch.no_grad():
        right = loss()(model(data.val_set.x[data.val_set.indices]), data.val_set.labels)
    assert run.callback_metrics["val/loss"].item() == pytest.approx(right.item(), rel=1e-6)


REFUSED_LOSSES: dict[str, tuple[Any, str]] = {
    "log-probabilities": (nn.NLLLoss, "NLLLoss takes log-probabilities.* CrossEntropyLoss"),
    "a sum": (partial(nn.CrossEntropyLoss, reduction="sum"), "reduction sum"),
    "one a sample": (partial(nn.CrossEntropyLoss, reduction="none"), "reduction none"),
    "three inputs": (nn.TripletMarginLoss, "TripletMarginLoss does not fit: .*missing"),
    "no loss": (nn.ReLU, "ReLU does not fit"),
    "no single number": (nn.CosineSimilarity, "CosineSimilarity does not fit|one number"),
    "a bad argument": (partial(nn.CrossEntropyLoss, reduction="mode"), "CrossEntropyLoss does not fit: mode"),
    "an instance": (nn.CrossEntropyLoss(), "is no class and no functools.partial"),
}


@pytest.mark.parametrize("kind", REFUSED_LOSSES)
def test_a_loss_that_does_not_fit_is_refused_when_the_model_is_made(kind: str) -> None:
    loss, line = REFUSED_LOSSES[kind]
    with pytest.raises(UserError, match=line):
        MLP(input_shape=(10,), num_classes=10, loss=loss)


def test_a_loss_that_is_0_for_any_output_is_refused() -> None:
    with pytest.raises(UserError, match="CrossEntropyLoss does not fit: for outputs"):
        LinearRegression(input_shape=(10,), out_features=1, loss=nn.CrossEntropyLoss)


@pytest.mark.parametrize(
    "own", [{"class_weights": "balanced"}, {"class_weights": [1.0] * 10}, {"label_smoothing": 0.1}]
)
def test_a_loss_excludes_what_shapes_the_tasks_own(own: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="belong to the task's own cross-entropy"):
        MLP(input_shape=(10,), num_classes=10, loss=nn.CrossEntropyLoss, **own)


def test_making_and_checking_them_draws_no_random_number() -> None:
    torch.manual_seed(0)
    plain = MLP(input_shape=(10,), num_classes=10)
    torch.manual_seed(0)
    with_metrics = MLP(
        input_shape=(10,), num_classes=10, loss=nn.MultiMarginLoss, metrics=[classification.MulticlassAUROC]
    )
    assert torch.equal(plain.network.head.weight, with_metrics.network.head.weight)
    assert set(plain.state_dict()) == set(with_metrics.state_dict())


def test_a_run_with_them_reloads_from_plain_python_with_weights_only(tmp_path: Path) -> None:
    model = MLP(
        input_shape=(10,),
        num_classes=10,
        loss=partial(nn.CrossEntropyLoss, label_smoothing=0.2),
        metrics=[classification.MulticlassAUROC, partial(classification.MulticlassF1Score, average="micro")],
    )
    run = trainer(max_steps=1)
    run.fit(model, SyntheticClustersDataModule(num_samples=300, val_size=100))
    run.save_checkpoint(tmp_path / "some.ckpt")
    loaded = MLP.load_from_checkpoint(tmp_path / "some.ckpt", weights_only=True)
    logits, y = torch.randn(7, 10), torch.arange(7)
    assert loaded.eval().loss(logits, y) == F.cross_entropy(logits, y, label_smoothing=0.2)
    assert list(loaded.metrics("val")) == ["loss", "acc", "auroc", "f1_score"]
    assert loaded.metrics("val")["f1_score"].average == "micro"


def test_a_loss_with_parameters_is_trained_with_the_network() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, output: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(self.scale * output, y)

    model = MLP(input_shape=(10,), num_classes=10, loss=Scaled)
    trainer().fit(model, SyntheticClustersDataModule(num_samples=300, val_size=100))
    assert model.state_dict()["loss_function.scale"] != 1


class Fails(FirstColumn):
    """A metric that fits until it meets real samples."""

    def compute(self) -> Tensor:
        if self.count > 10:
            raise ValueError("too many\nsamples")
        return super().compute()


def test_a_metric_that_fails_later_is_named_in_one_line() -> None:
    model = MLP(input_shape=(10,), num_classes=10, metrics=[Fails])
    with pytest.raises(UserError, match="val/fails: too many samples"):
        trainer().fit(model, SyntheticClustersDataModule(num_samples=300, val_size=100))


def test_targets_that_do_not_fit_are_refused_at_the_first_batches() -> None:
    x = torch.randn(8, 3)
    regressor = LinearRegression(input_shape=(3,), out_features=1)
    with pytest.raises(UserError, match=r"targets \(4,\) do not fit outputs \(4, 1\)"):
        trainer().fit(regressor, DataLoader(TensorDataset(x, torch.randn(8)), batch_size=4))
    classifier = NetworkClassifier(network=nn.Linear(3, 2), input_shape=(3,), num_classes=2)
    unbatched = DataLoader(TensorDataset(x, torch.zeros(8, dtype=torch.int64)), batch_size=None)
    with pytest.raises(UserError, match=r"a batch has one target of shape \(\)"):
        trainer().fit(classifier, unbatched, unbatched)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_the_command_line_appends_logs_monitors_and_tests_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "model:\n  init_args:\n    metrics:\n    - class_path: torchmetrics.classification.MulticlassF1Score\n"
        "      init_args: {average: weighted}\n    loss: torch.nn.MultiMarginLoss\n"
        "trainer:\n  callbacks+:\n  - class_path: EarlyStopping\n    init_args: {monitor: val/f1_score, mode: max}\n"
    )
    append = ["--model.metrics+=torchmetrics.classification.MulticlassAUROC", "--model.loss.p=2"]
    assert main(["fit", "--config", VECTORS, "--config", "mine.yaml", *append, *SHORT, "--name", "named"]) == 0
    (run,) = tmp_path.glob("runs/named/*")
    logged = rows(run)
    for name in ("loss", "acc", "f1_score", "auroc"):
        for split in ("train", "val", "test"):
            assert any(row[f"{split}/{name}"] for row in logged)
    assert (run / "curves.png").exists()
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert any("EarlyStopping" in key for key in checkpoint["callbacks"])

    assert main(["test", "--ckpt_path", "best", "--name", "named"]) == 0
    (test,) = tmp_path.glob("runs/named/*_test")
    for name in ("test/loss", "test/auroc", "test/f1_score"):
        assert rows(test)[0][name] == logged[-1][name]
    model = MLP.load_from_checkpoint(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert isinstance(model.loss_function, nn.MultiMarginLoss)
    assert model.loss_function.p == 2
    assert list(model.metrics("val")) == ["loss", "acc", "f1_score", "auroc"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--model.metrics+=torchmetrics.classification.BinaryF1Score", "BinaryF1Score does not fit"),
        ("--model.metrics+=MulticlassF1Score --model.metrics.num_classes=10", "leave `num_classes` out"),
        ("--model.metrics+=torchmetrics.MetricCollection", "MetricCollection"),
        ("--model.metrics+=os.system", "`os.system` may not be imported"),
        ("--model.loss=torch.nn.NLLLoss", "take CrossEntropyLoss"),
        ("--model.loss=torch.nn.CrossEntropyLoss --model.label_smoothing=0.1", "belong to the task's own"),
        ("--model.loss=torch.nn.CrossEntropyLos", "did you mean `CrossEntropyLoss`"),
    ],
)
def test_what_does_not_fit_is_answered_in_one_line(
    words: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", VECTORS, *words.split()]) == 2
    said = capfd.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert line in said
    assert not list(tmp_path.glob("runs/*/*"))


def test_a_generative_model_takes_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", IMAGES, "--model.loss=torch.nn.CrossEntropyLoss"]) == 2
    assert "ImageGPT has no argument `loss`" in capfd.readouterr().err


@pytest.mark.parametrize("num_classes", [0, 1])
def test_degenerate_sizes_are_left_to_the_checks_of_the_data(num_classes: int) -> None:
    assert MLP(input_shape=(10,), num_classes=num_classes).num_classes == num_classes
