"""The worst mistakes of a test run, against plain torch over the whole test set."""

from pathlib import Path

import matplotlib.image
import pytest
import torch
from lightning.pytorch import Trainer

from leyden.callbacks import worst_predictions
from leyden.callbacks.worst_predictions import WorstPredictions, draw_worst
from leyden.data.digits import DigitsDataModule
from leyden.data.synthetic import SyntheticRegressionDataModule
from leyden.models.conv_net import ConvNet
from leyden.models.linear_regression import LinearRegression


def trainer(directory: Path, callback: WorstPredictions) -> Trainer:
    options = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "default_root_dir": directory}
    return Trainer(callbacks=[callback], **options)


def test_the_worst_are_those_whose_true_class_was_given_the_lowest_probability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(worst_predictions, "draw_worst", lambda directory, rows: drawn.extend(rows))
    data = DigitsDataModule(batch_size=50)
    model = ConvNet(input_shape=(1, 28, 28), num_classes=10).eval()
    trainer(tmp_path, WorstPredictions(count=7)).test(model, data, verbose=False)
    x, y = data.test_set.x, data.test_set.labels
    with torch.no_grad():
        probabilities = model(data.normalize(x)).softmax(dim=1)
    guesses = probabilities.argmax(dim=1)
    of_truth = probabilities[torch.arange(len(y)), y].where(guesses != y, torch.inf)
    expected = of_truth.sort(stable=True).indices[:7]
    assert len(drawn) == 7
    for (image, truth, guess, confidence), i in zip(drawn, expected.tolist(), strict=True):
        assert (truth, guess) == (str(int(y[i])), str(int(guesses[i])))
        assert confidence == pytest.approx(probabilities[i].max().item(), abs=1e-6)
        pixels = (x[i] * (255 / 16)).round().byte()  # of 16 grey levels, normalising undone
        assert torch.equal(torch.from_numpy(image), pixels.permute(1, 2, 0))


def test_a_picture_is_drawn_also_of_no_mistake(tmp_path: Path) -> None:
    draw_worst(tmp_path, [])
    assert matplotlib.image.imread(tmp_path / "mistakes.png").shape[2] == 4


def test_a_regression_makes_no_such_mistakes(tmp_path: Path) -> None:
    model = LinearRegression(input_shape=(10,), out_features=1)
    trainer(tmp_path, WorstPredictions()).test(model, SyntheticRegressionDataModule(), verbose=False)
    assert not (tmp_path / "mistakes.png").exists()
