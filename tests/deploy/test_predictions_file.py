"""A table has the columns of its model."""

import csv
from pathlib import Path

import torch
from torch import nn

from leyden.data.cifar10 import CIFAR10DataModule
from leyden.deploy.predictions_file import PredictionsFile
from leyden.deploy.predictor import Predictor
from leyden.models.tasks import NetworkClassifier, Regressor


def flat(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, outputs))


class Angle(Regressor):
    """Predicts values of an image."""

    def __init__(self) -> None:
        super().__init__(input_shape=(3, 32, 32), out_features=2)
        self.network = flat(2)


def test_a_regressor_of_images_writes_its_values(tmp_path: Path) -> None:
    predictor = Predictor(Angle(), CIFAR10DataModule())
    columns = predictor.run(torch.randn(3, 3, 32, 32))
    with PredictionsFile(tmp_path / "table.csv", predictor) as table:
        table.write(["a", "b", "c"], columns)
    header, *rows = csv.reader((tmp_path / "table.csv").open(newline=""))
    assert header == ["file", "y0", "y1"]
    expected = zip("abc", columns["y0"].tolist(), columns["y1"].tolist(), strict=True)
    assert rows == [[name, str(y0), str(y1)] for name, y0, y1 in expected]
    assert not table.counts


def test_two_classes_have_no_third(tmp_path: Path) -> None:
    model = NetworkClassifier(network=flat(2), input_shape=(3, 32, 32), num_classes=2)
    predictor = Predictor(model, CIFAR10DataModule(classes=[3, 5]))
    probabilities = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    with PredictionsFile(tmp_path / "table.csv", predictor, all_classes=True) as table:
        table.write(["a", "b"], {"probabilities": probabilities})
    assert (tmp_path / "table.csv").read_text().splitlines() == [
        "file,class,probability,class_2,probability_2,p(cat),p(dog)",
        "a,dog,0.75,cat,0.25,0.25,0.75",
        "b,cat,0.5,dog,0.5,0.5,0.5",
    ]
    assert table.counts == {"dog": 1, "cat": 1}
