"""LightningModules and DataModules that nobody here wrote: they fit, test, predict and resume with every default on."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jsonargparse
import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchmetrics.classification import MulticlassF1Score

from leyden import PROJECT
from leyden.callbacks.monitored_scores import mode_of
from leyden.callbacks.prediction_writer import PredictionWriter
from leyden.callbacks.training_monitor import batch_size
from leyden.cli.main import main
from leyden.models.conv_net import ConvNet

pytestmark = pytest.mark.slow

jsonargparse.set_parsing_settings(import_path_allowlist=[__name__])  # as a fork does in leyden/security.py

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
BORING = "lightning.pytorch.demos.boring_classes"
N, FEATURES, CLASSES = 12, 4, 3


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- data ----------------------------------------------------------------------------------------------------------


class Samples(Dataset[Any]):
    """What a sample is depends on `kind`."""

    def __init__(self, kind: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(N, FEATURES, generator=generator)
        self.y = torch.arange(N) % CLASSES
        self.kind = kind

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        x, y = self.x[i], self.y[i]
        return {"tensor": x, "pair": (x, y), "triple": (x, y, i), "dict": {"inputs": x, "labels": y}}[self.kind]


class Stream(IterableDataset[Any]):
    """Pairs without a length."""

    def __iter__(self) -> Iterator[Any]:
        return iter([Samples("pair")[i] for i in range(N)])


def loader(dataset: Any) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=5)


class TrainOnly(LightningDataModule):
    """A training split and one to predict."""

    def __init__(self, kind: str = "pair") -> None:
        super().__init__()
        self.kind = kind

    def train_dataloader(self) -> Any:
        return loader(Samples(self.kind))

    def predict_dataloader(self) -> Any:
        return loader(Samples(self.kind))


class Few(LightningDataModule):
    """A training split, and splits of which there is none."""

    def train_dataloader(self) -> Any:
        return loader(Samples("pair"))

    def val_dataloader(self) -> Any:
        return []

    test_dataloader = val_dataloader


class NoLoader(Few):
    """Forgot to return a loader."""

    def test_dataloader(self) -> Any:
        return None


class InDicts(Few):
    """Loaders in a dict."""

    def train_dataloader(self) -> Any:
        return {"a": loader(Samples("pair")), "b": loader(Samples("tensor"))}

    def val_dataloader(self) -> Any:
        return {"a": loader(Samples("pair")), "b": loader(Samples("pair"))}

    test_dataloader = predict_dataloader = val_dataloader


class AfterSetup(Few):
    """Knows whether its loader was asked for in time."""

    calls: ClassVar[list[str]] = []

    def setup(self, stage: str) -> None:
        self.calls.append("setup")

    def train_dataloader(self) -> Any:
        self.calls.append("train_dataloader")
        return super().train_dataloader()


class NoTest(TrainOnly):
    """A validation split as well."""

    def val_dataloader(self) -> Any:
        return loader(Samples(self.kind))


class All(NoTest):
    """Each split."""

    def test_dataloader(self) -> Any:
        return loader(Samples(self.kind))


class TwoOfEach(All):
    """Two loaders for each evaluation."""

    def val_dataloader(self) -> Any:
        return [loader(Samples(self.kind)), loader(Samples(self.kind))]

    test_dataloader = predict_dataloader = val_dataloader


class Streams(All):
    """Iterable datasets."""

    def train_dataloader(self) -> Any:
        return loader(Stream())

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


# --- modules -------------------------------------------------------------------------------------------------------


class Tutorial(LightningModule):
    """As in most tutorials: hyper-parameters, `val_loss` and `val_acc` by `self.log`."""

    def __init__(self, hidden: int = 8, learning_rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y

    def step(self, batch: Any, split: str) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        self.log(f"{split}_loss", loss, prog_bar=True)
        self.log(f"{split}_acc", (logits.argmax(1) == y).float().mean())
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.step(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.step(batch, "val")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.step(batch, "test")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["learning_rate"])


class Plateau(Tutorial):
    """The schedule goes by a score."""

    def __init__(self, monitor: str = "val_loss", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.monitor = monitor

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": self.monitor}}


class AfterTheSanityCheck(Tutorial):
    """Logs nothing at the sanity check."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return None if self.trainer.sanity_checking else self.step(batch, "val")


class Dictionaries(LightningModule):
    """Batches that are dicts, lists of optimizers and schedulers, answers that are words."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(FEATURES, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        y: Tensor = self.head(self.encoder(inputs).relu())
        return y

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self(batch["inputs"])
        loss = F.cross_entropy(logits, batch["labels"])
        self.log_dict({"loss/train": loss}, on_step=True, on_epoch=True)
        return {"loss": loss, "logits": logits.detach()}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("valid/recon_loss", 2.0)
        self.log("valid/loss", F.cross_entropy(self(batch["inputs"]), batch["labels"]))
        return {"labels": batch["labels"]}

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("test/loss", F.cross_entropy(self(batch["inputs"]), batch["labels"]))
        return {"logits": self(batch["inputs"])}

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self(batch["inputs"])
        return {"logits": logits, "word": ["yes"] * len(logits), "loss": 0.5}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        schedulers = [torch.optim.lr_scheduler.ConstantLR(optimizer), torch.optim.lr_scheduler.StepLR(optimizer, 1)]
        return [optimizer], [{"scheduler": schedulers[0], "interval": "step"}, schedulers[1]]


class Metrics(LightningModule):
    """Metrics as attributes, logged at an epoch's end, and no `test_step`; samples are triples."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(FEATURES, CLASSES)
        self.train_f1, self.val_f1 = MulticlassF1Score(CLASSES), MulticlassF1Score(CLASSES)
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y, _ = batch
        logits = self(x)
        self.train_f1(logits, y)
        loss = F.cross_entropy(logits, y)
        self.losses.append(loss.item())
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("mean_loss", sum(self.losses) / max(len(self.losses), 1))
        self.log("train_f1", self.train_f1)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.val_f1(self(batch[0]), batch[1])
        self.log("val_f1", self.val_f1, on_epoch=True)

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self(batch[0])
        return logits.argmax(1), logits

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class GAN(LightningModule):
    """Two optimizers by hand, no validation; samples are bare tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = nn.Linear(2, FEATURES), nn.Linear(FEATURES, 1)

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.generator(z)
        return x

    def training_step(self, batch: Any, batch_idx: int) -> None:
        first, second = self.optimizers()  # type: ignore[misc]
        fake = self(torch.randn(len(batch), 2))
        for name, optimizer, loss in (
            ("g_loss", first, -self.discriminator(fake).mean()),
            ("d_loss", second, self.discriminator(fake.detach()).mean() - self.discriminator(batch).mean()),
        ):
            self.toggle_optimizer(optimizer)
            self.log(name, loss, prog_bar=True)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self(torch.randn(len(batch), 2))

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(p.parameters()) for p in (self.generator, self.discriminator)], []


class Several(Tutorial):
    """Trains on several loaders together."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.step(batch["a"], "train")


class Images(LightningDataModule):
    """What the models of this project need to know of their data, and batches of any form."""

    input_shape = (1, 28, 28)
    num_classes = CLASSES

    def __init__(self, kind: str = "pair") -> None:
        super().__init__()
        self.kind = kind

    def train_dataloader(self) -> Any:
        samples = Samples("pair" if self.kind == "pairs, twice" else self.kind)
        samples.x = torch.randn(N, *self.input_shape, generator=torch.Generator().manual_seed(0))
        return loader(samples)

    def val_dataloader(self) -> Any:
        return [self.train_dataloader()] * 2 if self.kind == "pairs, twice" else self.train_dataloader()

    test_dataloader = predict_dataloader = val_dataloader


class Skips(Tutorial):
    """Trains on every other batch only."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return None if batch_idx % 2 else self.step(batch, "train")


# --- tests ---------------------------------------------------------------------------------------------------------


def words(model: str, data: str, *more: str) -> list[str]:
    """`fit` for one epoch; names without a dot are those of this file."""
    model, data = (name if "." in name else f"{__name__}.{name}" for name in (model, data))
    return ["fit", "--model", model, "--data", data, "--trainer.max_epochs", "1", "--name", "foreign", *more]


def newest(suffix: str = "") -> Path:
    runs = [run for run in Path("runs/foreign").iterdir() if run.name.endswith(suffix)]
    return max(runs, key=lambda run: (run / "config.yaml").stat().st_mtime_ns)


def checkpoint_of(run: Path) -> Any:
    """The init_args of the ModelCheckpoint in config.yaml."""
    callbacks = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["callbacks"]
    return next(c["init_args"] for c in callbacks if c["class_path"].endswith("ModelCheckpoint"))


MODULES = [
    (f"{BORING}.BoringModel", f"{BORING}.BoringDataModule", None),
    (f"{BORING}.BoringModel", f"{BORING}.BoringDataModuleNoLen", None),
    (f"{BORING}.ManualOptimBoringModel", f"{BORING}.BoringDataModule", None),
    (f"{BORING}.DemoModel", f"{BORING}.BoringDataModule", None),
    ("GAN", "TrainOnly --data.kind tensor", None),
    ("Tutorial", "All", "val_loss"),
    ("Tutorial", "TwoOfEach", "val_loss/dataloader_idx_0"),
    ("Tutorial", "Streams", "val_loss"),
    ("Several", "InDicts", "val_loss/dataloader_idx_0"),
    ("Plateau", "All", "val_loss"),
    ("Skips", "All", "val_loss"),
    ("AfterTheSanityCheck", "All", "val_loss"),
    ("Dictionaries", "All --data.kind dict", "valid/loss"),
    ("Metrics", "NoTest --data.kind triple", "val_f1"),
]


@pytest.mark.parametrize(("model", "data", "monitor"), MODULES)
def test_a_foreign_module_fits_tests_predicts_and_resumes(
    model: str, data: str, monitor: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    data, *options = data.split()
    fit = words(model, data, *options)
    has_test = not any(name in fit[2] + fit[4] for name in ("DemoModel", "GAN", "Metrics"))
    assert main(fit) == 0
    run = newest()
    out, err = capsys.readouterr()
    assert ("no test after fit" in out) != has_test
    assert checkpoint_of(run)["monitor"] == monitor
    for file in ("best.ckpt", "last.ckpt"):
        assert (run / "checkpoints" / file).is_file()

    for command in ("test", "predict"):
        assert main([command, "--ckpt_path", str(run)]) == (0 if has_test or command == "predict" else 2)
    out, err = capsys.readouterr()
    assert ("there is nothing to test" in err) != has_test
    assert (newest("_predict") / "predictions.csv").is_file()

    on = ["fit", "--ckpt_path", str(run), "--trainer.max_epochs", "2", "--test_after_fit", "false"]
    assert main(on) == 0
    assert newest() == run
    assert checkpoint_of(run)["monitor"] == monitor
    states = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    (state,) = [state for name, state in states.items() if name.startswith("ModelCheckpoint")]
    assert state["monitor"] == monitor
    if monitor:
        with (run / "metrics.csv").open() as lines:
            scores = [float(row[monitor]) for row in csv.DictReader(lines) if row[monitor]]
        assert len(scores) == 2
        best = max(scores) if monitor == "val_f1" else min(scores)
        assert float(state["best_model_score"]) == pytest.approx(best)


def test_a_module_with_loaders_of_its_own_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model", f"{BORING}.BoringModel", "--trainer.max_epochs", "1"]) == 0
    for command in (["test"], ["validate"], ["predict"], ["fit", "--trainer.max_epochs", "2"]):
        assert main([*command, "--ckpt_path", "last"]) == 0
    assert "callbacks used to create the checkpoint" not in capsys.readouterr().err
    for model in ("ConvNet", f"{BORING}.DemoModel"):
        assert main(["fit", "--model", model]) == 2
        assert "no data: name an experiment" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "model", "data", "answer"),
    [
        ("test", "Tutorial", "NoTest", "NoTest has no test_dataloader, so there is nothing to test"),
        ("test", "Metrics", "All --data.kind triple", "Metrics has no test_step, so there is nothing to test"),
        ("validate", "GAN", "All --data.kind tensor", "GAN has no validation_step, so there is nothing to validate"),
        ("validate", "Tutorial", "TrainOnly", "TrainOnly has no val_dataloader, so there is nothing to validate"),
        ("predict", "Tutorial", "Few", "Few has no predict_dataloader, so there is nothing to predict"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(
    command: str, model: str, data: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, *options = data.split()
    assert main(words(model, data, *options)) == 0
    capsys.readouterr()
    assert main([command, "--ckpt_path", "last"]) == 2
    assert answer in capsys.readouterr().err


def test_loaders_are_not_asked_for_before_setup() -> None:
    AfterSetup.calls.clear()
    assert main(words("Tutorial", "AfterSetup")) == 0
    assert AfterSetup.calls == ["setup", "train_dataloader", "setup"]


@pytest.mark.parametrize(
    ("model", "data", "answer"),
    [
        (f"{BORING}.BoringModel", "TwoOfEach --data.kind tensor", "no `dataloader_idx` argument in `BoringModel.valid"),
        ("GAN", "TrainOnly --data.kind tensor --trainer.gradient_clip_val 1", "not supported for manual optimization"),
    ],
)
def test_what_lightning_says_of_a_misconfiguration_is_one_line(
    model: str, data: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, *options = data.split()
    assert main(words(model, data, *options)) == 2
    assert answer in capsys.readouterr().err.splitlines()[-1]


def test_a_loader_that_is_found_missing_at_the_test_after_fit_costs_no_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("Tutorial", "NoLoader")) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "An invalid dataloader was returned from `NoLoader.test_dataloader()`" in line
    assert {"best.ckpt", "last.ckpt"} <= {file.name for file in Path("runs").rglob("*.ckpt")}


def test_a_model_of_this_project_trains_on_a_foreign_datamodule() -> None:
    assert main(words("leyden.models.conv_net.ConvNet", "Images")) == 0
    assert main(["predict", "--ckpt_path", "last"]) == 0
    assert {"confusion.csv", "mistakes.png"} <= {file.name for file in newest().parent.rglob("*")}


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (["--data.kind", "triple"], "ConvNet takes batches of two, inputs and targets, and the data give a list of 3"),
        (["--data.kind", "dict"], "ConvNet takes batches of two, inputs and targets, and the data give a dict of 2"),
        (
            ["--data.kind", "tensor"],
            "ConvNet takes batches of two, inputs and targets, and the data give a Tensor of 5",
        ),
        (["--data.kind", "pairs, twice"], "no `dataloader_idx` argument in `ConvNet.validation_step()`"),
        (["--model.class_weights", "balanced"], "class_weights balanced counts the labels of train_set, and Images"),
    ],
)
def test_what_a_model_of_this_project_cannot_take_is_refused_in_one_line(
    options: list[str], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words("leyden.models.conv_net.ConvNet", "Images", *options)) == 2
    assert answer in capsys.readouterr().err.splitlines()[-1]
    assert not Path("runs").exists()


STOPPING = "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor"
SECOND = "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor"
PLATEAU = "--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau --model.lr_scheduler.monitor"


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (f"{STOPPING} val_loss", ["EarlyStopping monitors `val_loss`", "did you mean `val/loss`?"]),
        (f"{STOPPING} train_loss", ["EarlyStopping", "did you mean `train/loss`?"]),
        (f"{STOPPING} val/auroc", ["EarlyStopping", "there are val/acc, val/loss"]),
        (f"{SECOND} val_acc", ["ModelCheckpoint monitors `val_acc`", "did you mean `val/acc`?"]),
        (f"{PLATEAU} val_loss", ["the schedule monitors `val_loss`", "did you mean `val/loss`?"]),
        ("--monitor val_acc", ["ModelCheckpoint monitors `val_acc`", "did you mean `val/acc`?"]),
        ("--monitor val/top5", ["--mode min or --mode max"]),
        ("--monitor val/acc --trainer.callbacks null", ["no ModelCheckpoint"]),
    ],
)
def test_a_score_that_a_task_does_not_log_is_refused_before_the_first_step(
    options: str, answer: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", DIGITS, *options.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in answer)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (f"{STOPPING} val/loss", ["EarlyStopping monitors `val/loss`", "did you mean `val_loss`?"]),
        (f"{SECOND} val/acc", ["ModelCheckpoint monitors `val/acc`", "did you mean `val_acc`?"]),
        ("--monitor val/acc", ["ModelCheckpoint monitors `val/acc`", "did you mean `val_acc`?"]),
        ("--model Plateau --model.monitor val/loss", ["the schedule monitors `val/loss`", "did you mean `val_loss`?"]),
    ],
)
def test_a_misspelt_score_of_a_foreign_validation_is_refused_before_the_first_step(
    options: str, answer: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = options.replace("Plateau", f"{__name__}.Plateau")
    assert main(words("Tutorial", "All", *options.split())) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(part in line for part in answer)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (
            f"{STOPPING} train_los",
            "EarlyStopping monitors `train_los`, which is not logged (did you mean `train_loss`?)",
        ),
        (f"{STOPPING} recall", "EarlyStopping monitors `recall`, which is not logged (there are"),
        ("--trainer.num_sanity_val_steps 0 --monitor val/acc", "ModelCheckpoint monitors `val/acc`"),
        ("--trainer.num_sanity_val_steps 0 --model Plateau --model.monitor val/loss", "monitors `val/loss`"),
    ],
)
def test_a_score_that_an_epoch_did_not_log_ends_the_run_with_one_line_and_a_checkpoint(
    options: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = options.replace("Plateau", f"{__name__}.Plateau")
    assert main(words("Tutorial", "All", *options.split())) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert answer in line
    assert "go on with --ckpt_path last" in line
    assert (newest() / "checkpoints" / "last.ckpt").is_file()
    if "Plateau" in options:
        assert main(["fit", "--ckpt_path", "last", "--model.monitor", "val_loss"]) == 0
        assert checkpoint_of(newest())["monitor"] == "val_loss"


@pytest.mark.parametrize("epochs", ["1", "3"])
def test_without_validation_best_goes_by_a_score_of_training_that_must_be_logged(
    epochs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = words("GAN", "TrainOnly", "--data.kind", "tensor", "--trainer.max_epochs", epochs)
    fit += ["--checkpoint.min_interval", "0:00:00"]  # the error is raised between two short epochs
    assert main([*fit, "--monitor", "g_loss"]) == 0
    assert (newest() / "checkpoints" / "best.ckpt").is_file()
    assert main([*fit, "--monitor", "g_los", "--mode", "min"]) == 1
    assert "ModelCheckpoint monitors `g_los`, which is not logged (did you mean `g_loss`?)" in capsys.readouterr().err
    last = torch.load(newest() / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 6  # two optimizers, three batches


@pytest.mark.parametrize("monitor", ["val/loss", "val_loss"])
def test_two_checkpoints_by_one_score_are_refused(monitor: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words("Tutorial", "All", *f"{SECOND} {monitor}".split())) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "ModelCheckpoint" in line


def test_a_second_checkpoint_by_another_score_resumes() -> None:
    assert main(words("Tutorial", "All", *f"{SECOND} val_acc".split())) == 0
    assert main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "2"]) == 0


def test_a_score_that_is_logged_after_the_check_before_the_first_step_may_be_monitored() -> None:
    assert main(words("AfterTheSanityCheck", "All", *f"{STOPPING} val_acc".split())) == 0


def test_monitor_chooses_what_best_means_and_a_resume_keeps_it() -> None:
    fit = ["fit", "--config", DIGITS, "--trainer.max_epochs", "2", "--trainer.limit_train_batches", "3"]
    assert main([*fit, "--monitor", "val/acc", "--model.lr_scheduler.T_max", "30"]) == 0
    (run,) = Path("runs/convnet_digits").iterdir()
    assert main(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4", "--trainer.limit_train_batches", "9"]) == 0
    assert checkpoint_of(run)["monitor"] == "val/acc"
    assert checkpoint_of(run)["mode"] == "max"
    with (run / "metrics.csv").open() as lines:
        scores = [float(row["val/acc"]) for row in csv.DictReader(lines) if row["val/acc"]]
    states = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["callbacks"]
    (state,) = [state for name, state in states.items() if name.startswith("ModelCheckpoint")]
    assert float(state["best_model_score"]) == pytest.approx(max(scores))


def test_a_mode_is_only_guessed_where_the_name_says_it() -> None:
    names = ("val/acc", "val_loss", "valid/F1", "val/mse/dataloader_idx_0", "val/top5", "val/throughput")
    assert [mode_of(name) for name in names] == ["max", "min", "max", "min", None, None]


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (torch.zeros(5, 2), 5),
        ((torch.zeros(5, 2), torch.zeros(5)), 5),
        ({"inputs": torch.zeros(5, 2), "labels": torch.zeros(5)}, 5),
        ([{"words": ["a"] * 5, "ids": torch.zeros(5, 7)}, None], 5),
        (torch.tensor(1.0), 1),
        (None, 0),
        (["a", "b"], 0),
    ],
)
def test_the_samples_of_any_batch_are_counted(batch: Any, size: int) -> None:
    assert batch_size(batch) == size


class Answers(Tutorial):
    """Predicts what it is told to."""

    answers: Any = None

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self.answers(batch)


@pytest.mark.parametrize(
    ("answers", "columns", "lacking"),
    [
        (lambda batch: batch[1], ["prediction"], None),
        (lambda batch: batch[0], [f"prediction{k}" for k in range(FEATURES)], None),
        (lambda batch: (batch[1], batch[0][:, :1]), ["prediction0", "prediction1"], None),
        (lambda batch: batch[1].tolist(), ["prediction"], None),
        (lambda batch: {"a": {"b": batch[1]}, "word": ["x"] * len(batch[1])}, ["a.b", "word"], None),
        (
            lambda batch: {"a": batch[1], "all": batch[1].sum(), "none": None, "three": [1, 2, 3]},
            ["a"],
            "all, none, three",
        ),
        (lambda batch: batch[0][:, None, None], [], "prediction"),
        (lambda batch: [object() for _ in batch[1]], [], "prediction0, prediction1"),
        (lambda batch: None, [], "prediction"),
    ],
)
@pytest.mark.parametrize("data", ["All", "TwoOfEach", "Streams"])
def test_predictions_of_any_form_are_written_or_named(
    answers: Any, columns: list[str], lacking: str | None, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = Answers()
    module.answers = answers
    datamodule = {"All": All, "TwoOfEach": TwoOfEach, "Streams": Streams}[data]()
    Trainer(callbacks=[PredictionWriter()], logger=False, enable_progress_bar=False).predict(module, datamodule)
    out = capsys.readouterr().out
    assert (f"predictions.csv lacks {lacking}" in out) if lacking else ("lacks" not in out)
    if not columns:
        assert not Path("predictions.csv").exists()
        return
    with Path("predictions.csv").open() as lines:
        header, *rows = csv.reader(lines)
    several = ["loader"] if data == "TwoOfEach" else []
    assert header == [*several, "index", *columns]
    assert [row[len(several)] for row in rows] == [str(i) for i in range(N)] * (2 if several else 1)


class Odd(ConvNet):
    """A classifier whose test step returns no logits."""

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        super().test_step(batch, batch_idx)
        return {"nothing": None}


def test_the_callbacks_of_classifiers_pass_over_what_is_no_logits() -> None:
    fit = ["fit", "--config", DIGITS, "--model", f"{__name__}.Odd", "--trainer.max_epochs", "1", "--name", "foreign"]
    mirror = "--trainer.callbacks+=leyden.callbacks.flip_tta.FlipTTA"
    assert main([*fit, "--trainer.limit_train_batches", "3", mirror]) == 0
    assert not {"confusion.csv", "mistakes.png"} & {file.name for file in newest().iterdir()}
