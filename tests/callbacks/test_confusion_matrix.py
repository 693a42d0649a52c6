"""The confusion matrix of a test run, against scikit-learn."""

import csv
from pathlib import Path

import matplotlib.image
import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.metrics import confusion_matrix

from leyden.callbacks.confusion_matrix import ConfusionMatrix, write_confusion
from leyden.data.digits import DigitsDataModule
from leyden.data.synthetic import SyntheticRegressionDataModule
from leyden.models.conv_net import ConvNet
from leyden.models.linear_regression import LinearRegression


def trainer(directory: Path, *callbacks: object) -> Trainer:
    options = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "default_root_dir": directory}
    return Trainer(callbacks=list(callbacks), **options)


def test_counts_are_those_of_scikit_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = DigitsDataModule()
    model = ConvNet(input_shape=(1, 28, 28), num_classes=10).eval()
    trainer(tmp_path, ConfusionMatrix()).test(model, data, verbose=False)
    with torch.no_grad():
        guesses = model(data.normalize(data.test_set.x)).argmax(dim=1)
    expected = confusion_matrix(data.test_set.y, guesses, labels=range(10))
    with (tmp_path / "confusion.csv").open() as file:
        (_, *names), *rows = list(csv.reader(file))
    assert names == [row[0] for row in rows] == [str(i) for i in range(10)]
    assert [[int(count) for count in row[1:]] for row in rows] == expected.tolist()
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split()[:4] == ["3", str(expected[3, 3]), "of", str(expected[3].sum())]
    assert matplotlib.image.imread(tmp_path / "confusion.png").shape[2] == 4


@pytest.mark.parametrize("classes", [2, 40, 500])
def test_the_picture_of_any_number_of_classes_fits_a_screen(tmp_path: Path, classes: int) -> None:
    write_confusion(tmp_path, torch.eye(classes, dtype=torch.int64), [f"class {i}" for i in range(classes)])
    picture = matplotlib.image.imread(tmp_path / "confusion.png")
    assert max(picture.shape[:2]) < 3000


def test_a_regression_has_no_confusion_matrix(tmp_path: Path) -> None:
    model = LinearRegression(input_shape=(10,), out_features=1)
    trainer(tmp_path, ConfusionMatrix()).test(model, SyntheticRegressionDataModule(), verbose=False)
    assert not (tmp_path / "confusion.csv").exists()
