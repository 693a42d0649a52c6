"""ImageGPT against a model of independent pixels, and its drawings judged by a classifier.

    python benchmarks/imagegpt.py IMAGEGPT_CKPT CLASSIFIER_CKPT [IMAGES_PER_CLASS]

Both checkpoints come from `leyden fit` on the same dataset. The baseline is the best model in which, given the class,
no pixel knows of another: a histogram for each class and pixel, counted over the training split with one added to every
level. A drawing counts as right if the classifier, which never saw one, takes it for the class that was asked for.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import instantiate_class
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from leyden.data.base import ArrayDataset, ImageDataModule
from leyden.models.base import Classifier
from leyden.models.image_gpt import ImageGPT
from leyden.training.checkpoint_io import read_checkpoint


def open_run(file: str) -> tuple[Any, ImageDataModule]:
    """Return the model of a checkpoint, and the data that it was trained on."""
    config = read_checkpoint(Path(file))["config"]
    package, _, name = config["model"]["class_path"].rpartition(".")
    model = getattr(import_module(package), name).load_from_checkpoint(file, weights_only=True, map_location="cpu")
    config["data"]["init_args"] |= {"augment": None, "sampler": None}
    data = instantiate_class((), config["data"])
    data.setup()
    return model.eval(), data


def tokens_of(model: ImageGPT, data: ImageDataModule, split: ArrayDataset) -> tuple[Tensor, Tensor]:
    """Return the pixel tokens (N, T) and the labels (N,) of a split."""
    x, y = split[:]  # type: ignore[index]
    return model.quantize(data.normalize(x)), y


def independent_bpd(model: ImageGPT, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Return the bits per dimension of independent pixels on the test split."""
    (pixels, y), (test_pixels, test_y) = train, test
    one_hot = F.one_hot(pixels, model.levels)  # (N, T, levels)
    counts = torch.stack([1 + one_hot[y == label].sum(dim=0) for label in range(model.num_classes)])
    log_p = (counts / counts.sum(dim=2, keepdim=True)).log2()  # (classes, T, levels)
    return -log_p[test_y].gather(2, test_pixels[:, :, None]).mean().item()


@torch.no_grad()
def gpt_bpd(model: ImageGPT, data: ImageDataModule) -> float:
    """Return ImageGPT's bits per dimension on the test split."""
    metric = model.make_metrics()["bpd"]
    for batch in data.test_dataloader():
        inputs, targets = model.inputs_and_targets(*data.on_after_batch_transfer(batch, 0))
        metric.update(model(inputs), targets)
    return metric.compute().item()


@torch.no_grad()
def classified(classifier: Classifier, data: ImageDataModule, images: Tensor, y: Tensor) -> Tensor:
    """Return for each image in [0, 1] whether the classifier takes it for its class `y`."""
    x = F.interpolate(images * data.pixel_max, size=data.input_shape[1:], mode="bilinear").round()
    return classifier(data.normalize(x)).argmax(dim=1) == y


model, data = open_run(sys.argv[1])
classifier, classifier_data = open_run(sys.argv[2])
per_class = int(sys.argv[3]) if len(sys.argv) > 3 else 100

train, test = tokens_of(model, data, data.train_set), tokens_of(model, data, data.test_set)
bpd, baseline = gpt_bpd(model, data), independent_bpd(model, train, test)
print(f"test bits per dimension: ImageGPT {bpd:.3f}, independent pixels {baseline:.3f}, ratio {bpd / baseline:.3f}")

y = torch.arange(model.num_classes).repeat_interleave(per_class)
right = classified(classifier, classifier_data, model.sample(y), y).float()
real = classified(classifier, classifier_data, model.dequantize(test[0]), test[1]).float().mean()
print(f"of {len(y)} drawings {right.mean():.1%} are classified as asked, of the test images {real:.1%}")
print("by class: " + ", ".join(f"{label}: {right[y == label].mean():.0%}" for label in range(model.num_classes)))
