"""Baselines of the experiments: classical methods for their data, fitted to the same training split.

The command `python benchmarks/classical.py EXPERIMENT BASELINE` prints a baseline's score on the test split. Like the
network, a baseline is fitted to the training split without the validation samples, and its smoothing or penalty is
chosen on the validation split, as the network's checkpoint is. Everything else is scikit-learn's default, including the
limit of 100 steps of a logistic regression.
"""

import hashlib
import json
import math
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import sklearn
import torch
import yaml
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leyden import PROJECT
from leyden.data.array_dataset import ArrayDataset
from leyden.data.cifar10 import CIFAR10DataModule
from leyden.data.datamodules import ArrayDataModule, ImageDataModule
from leyden.data.digits import DigitsDataModule
from leyden.data.mnist import MNISTDataModule
from leyden.data.synthetic import SyntheticClustersDataModule, SyntheticRegressionDataModule

DATA: dict[str, type[ArrayDataModule]] = {
    module.__name__: module
    for module in (
        CIFAR10DataModule,
        DigitsDataModule,
        MNISTDataModule,
        SyntheticClustersDataModule,
        SyntheticRegressionDataModule,
    )
}
LOADING = {"augment", "mix", "batch_size", "num_workers", "pin_memory", "drop_last", "sampler", "persistent_workers"}
LOADING |= {"prefetch_factor", "timeout", "on_device"}  # these change no array
SMOOTHINGS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]
LOGISTIC_C = [0.001, 0.01, 0.1]  # inverse of the weight of the penalty
SVC_C = [1.0, 10.0]


def class_and_args(part: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the short name of a configuration's `model` or `data`, and its arguments."""
    part = {"class_path": part} if isinstance(part, str) else part
    return part["class_path"].rpartition(".")[2], part.get("init_args", {})


def baselines_of(config: dict[str, Any]) -> list[str]:
    """Return the names of an experiment's baselines; none if its data are not from this project."""
    model, data = class_and_args(config["model"])[0], class_and_args(config["data"])[0]
    if data in DATA and model == "ImageGPT":
        return ["independent pixels"]
    return {
        "CIFAR10DataModule": ["logistic regression"],
        "DigitsDataModule": ["SVC", "3-NN", "logistic regression"],
        "MNISTDataModule": ["logistic regression"],
        "SyntheticClustersDataModule": ["logistic regression"],
        "SyntheticRegressionDataModule": ["least squares", "the true function"],
    }.get(data, [])


def pixel_args(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of an ImageGPT that define a token."""
    name, args = class_and_args(config["model"])
    return {key: args[key] for key in ("levels", "pool") if key in args} if name == "ImageGPT" else {}


def fingerprint(config: dict[str, Any], baseline: str) -> str:
    """Return a fingerprint of an experiment's arrays, the baseline and the version of scikit-learn."""
    name, args = class_and_args(config["data"])
    arrays = {key: value for key, value in args.items() if key not in LOADING}
    return shortened([baseline, sklearn.__version__, name, arrays, pixel_args(config)])


def shortened(content: object) -> str:
    """Return the first 12 digits of the SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def arrays_of(config: dict[str, Any]) -> ArrayDataModule:
    """Return the data of an experiment with the splits of a run."""
    name, args = class_and_args(config["data"])
    data = DATA[name](**{key: value for key, value in args.items() if key not in LOADING})
    data.setup()
    return data


def vectors(data: ArrayDataModule, split: ArrayDataset) -> tuple[Any, Any]:
    """Return the network's inputs of a split as arrays (N, D), and the targets (N, ...)."""
    x, y = split[:]  # type: ignore[index]
    x = data.normalize(x) if isinstance(data, ImageDataModule) else x
    return x.flatten(1).numpy(), y.numpy()


def accuracy(data: ArrayDataModule, *models: Any) -> float:
    """Fit classifiers to the training split; return the test accuracy of the one with the best validation accuracy."""
    train, val = vectors(data, data.train_set), vectors(data, data.val_set)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # more steps overfit
        best = max((model.fit(*train) for model in models), key=lambda model: model.score(*val))
    return float(best.score(*vectors(data, data.test_set)))


def least_squares(data: ArrayDataModule) -> float:
    """Return the mean squared error of linear regression on the test split."""
    x, y = vectors(data, data.test_set)
    error = LinearRegression().fit(*vectors(data, data.train_set)).predict(x) - y
    return float((error**2).mean())


def true_function(data: ArrayDataModule) -> float:
    """Return the mean squared error of the function that generated the targets: their noise on the test split."""
    assert isinstance(data, SyntheticRegressionDataModule)
    x, y = data.test_set[:]  # type: ignore[index]
    output = x @ data.weight.T + data.bias
    return F.mse_loss(output.sin() if data.nonlinear else output, y).item()


def independent_bits(model: Any, data: ImageDataModule) -> float:
    """Return the bits per pixel, on the test split, of a model with independent pixels given the class.

    It is a histogram for each class and pixel, counted over the training split. To each count is added the number
    that is best on the validation split.

    Args:
        model: An ImageGPT, which says what the pixel tokens are.
        data: The images.
    """

    def tokens(split: ArrayDataset) -> tuple[Tensor, Tensor]:
        x, y = split[:]  # type: ignore[index]
        return model.quantize(data.normalize(x)), y  # (N, T), (N,)

    (pixels, y), val, test = tokens(data.train_set), tokens(data.val_set), tokens(data.test_set)
    counts = torch.stack(  # (classes, T, levels)
        [F.one_hot(pixels[y == label], model.levels).sum(dim=0) for label in range(model.num_classes)]
    )

    def bits(smoothing: float, pixels: Tensor, y: Tensor) -> float:
        smooth = counts.double() + smoothing
        log_p = (smooth / smooth.sum(dim=2, keepdim=True)).log2()
        return -log_p[y].gather(2, pixels[:, :, None]).mean().item()

    return bits(min(SMOOTHINGS, key=lambda smoothing: bits(smoothing, *val)), *test)


def independent_pixels(config: dict[str, Any], data: ArrayDataModule) -> float:
    """Return the bits per pixel of independent pixels, quantized as for an experiment's ImageGPT."""
    from leyden.models.image_gpt import ImageGPT

    assert isinstance(data, ImageDataModule)
    model = ImageGPT(data.num_classes, input_shape=data.input_shape, **pixel_args(config))
    return independent_bits(model, data)


SCORES: dict[str, tuple[str, Callable[[ArrayDataModule], float]]] = {
    "SVC": ("test/acc", lambda data: accuracy(data, *[SVC(C=c) for c in SVC_C])),
    "3-NN": ("test/acc", lambda data: accuracy(data, KNeighborsClassifier(3))),
    "logistic regression": ("test/acc", lambda data: accuracy(data, *[LogisticRegression(C=c) for c in LOGISTIC_C])),
    "least squares": ("test/loss", least_squares),
    "the true function": ("test/loss", true_function),
}


def score(config: dict[str, Any], baseline: str) -> tuple[str, float]:
    """Return the metric of a baseline and its value on the test split of an experiment."""
    data = arrays_of(config)
    if baseline == "independent pixels":
        return "test/bpd", independent_pixels(config, data)
    metric, function = SCORES[baseline]
    return metric, function(data)


def open_run(file: str | Path) -> tuple[Any, ImageDataModule]:
    """Return the model of a checkpoint, and the data that it was trained on, without augmentation."""
    from lightning.pytorch.cli import instantiate_class

    from leyden.checkpoints.io import read_checkpoint

    config = read_checkpoint(Path(file))["config"]
    package, _, name = config["model"]["class_path"].rpartition(".")
    model = getattr(import_module(package), name).load_from_checkpoint(file, weights_only=True, map_location="cpu")
    config["data"]["init_args"] |= {"sampler": None}
    for name in {"augment", "mix"} & config["data"]["init_args"].keys():
        config["data"]["init_args"][name] = None
    data = instantiate_class((), config["data"])
    data.setup()
    return model.eval(), data


@torch.no_grad()
def gpt_bits(model: Any, data: ImageDataModule) -> Tensor:
    """Return the bits per pixel of an ImageGPT for each image of the test split, (N,)."""
    bits = []
    for x, y in data.test_dataloader():
        inputs, targets = model.inputs_and_targets(data.normalize(x), y)
        bits.append(F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none").mean(dim=1))
    return torch.cat(bits) / math.log(2)


if __name__ == "__main__":
    experiment, name = sys.argv[1:]
    torch.set_num_threads(1)
    print(*score(yaml.safe_load((PROJECT / "configs" / f"{experiment}.yaml").read_text()), name))
