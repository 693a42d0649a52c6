"""predictions.csv has the classes, truths and probabilities of a classifier by name."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from leyden.callbacks.prediction_writer import PredictionWriter
from leyden.cli.main import main
from leyden.data.array_dataset import ArrayDataset
from leyden.data.cifar10 import CIFAR10_CLASSES, CIFAR10DataModule
from leyden.models.conv_net import ConvNet

from .conftest import QUIET

COLOURED: dict[str, Any] = {"input_shape": (3, 32, 32), "num_classes": 10}


def table(model: ConvNet, data: Any, **options: Any) -> list[dict[str, str]]:
    """The rows that are written for the predictions of a model."""
    writer = PredictionWriter(**options)
    Trainer(callbacks=[writer], enable_progress_bar=False, **QUIET).predict(model, data)
    with Path("predictions.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        return list(csv.DictReader(lines))


def probabilities(model: ConvNet, data: CIFAR10DataModule) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(data.normalize(data.test_set.x)).softmax(dim=1)


def test_classes_and_truths_have_names_and_the_path_is_printed(
    cifar10_root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, data = ConvNet(**COLOURED), CIFAR10DataModule(str(cifar10_root), val_size=30)
    rows = table(model, data)
    assert list(rows[0]) == ["index", "class", "truth", "probability"]
    values, classes = probabilities(model, data).max(dim=1)
    assert [row["index"] for row in rows] == [str(i) for i in range(60)]
    assert [row["class"] for row in rows] == [CIFAR10_CLASSES[i] for i in classes.tolist()]
    assert [row["truth"] for row in rows] == [CIFAR10_CLASSES[i] for i in data.test_set.y.tolist()]
    found = torch.tensor([float(row["probability"]) for row in rows])
    torch.testing.assert_close(found, values, rtol=0, atol=1e-6)
    assert "file  predictions.csv\n" in capfd.readouterr().out


def test_the_probability_of_each_class_is_written_on_request(cifar10_root: Path) -> None:
    model, data = ConvNet(**COLOURED), CIFAR10DataModule(str(cifar10_root), val_size=30)
    rows = table(model, data, all_classes=True)
    columns = [f"p({name})" for name in CIFAR10_CLASSES]
    assert list(rows[0]) == ["index", "class", "truth", "probability", *columns]
    found = torch.tensor([[float(row[column]) for column in columns] for row in rows])
    torch.testing.assert_close(found, probabilities(model, data), rtol=0, atol=1e-6)


class Unlabelled(CIFAR10DataModule):
    """Its test images are files, and some of them have no label."""

    def setup(self, stage: str | None = None) -> None:
        """Give the test set its files."""
        super().setup(stage)
        files = [f"folder/{i}\udcff.png" for i in range(60)]
        y = self.test_set.y.clone()
        y[7] = -1
        self.test_set = ArrayDataset(self.test_set.x, y, files=files)


def test_the_files_of_a_dataset_are_named_and_a_label_that_is_no_class_stays(cifar10_root: Path) -> None:
    rows = table(ConvNet(**COLOURED), Unlabelled(str(cifar10_root), val_size=30))
    assert list(rows[0]) == ["index", "file", "class", "truth", "probability"]
    assert [row["file"] for row in rows] == [f"folder/{i}\udcff.png" for i in range(60)]
    assert [row["truth"] for row in rows[6:9]] == [CIFAR10_CLASSES[6], "-1", CIFAR10_CLASSES[8]]


def test_only_predict_takes_all(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--ckpt_path", "last", "--all"]) == 2
    assert main(["fit", "--model", "ConvNet", "--data", "DigitsDataModule", "--all"]) == 2
    assert "unknown option `--all`" in capfd.readouterr().err
