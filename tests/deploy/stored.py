"""Checkpoints as `leyden fit` writes them, of networks with random weights, and images for them."""

import importlib
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from PIL import Image

from leyden.models.task import Task

CIFAR10 = {"class_path": "leyden.data.cifar10.CIFAR10DataModule", "init_args": {"batch_size": 16}}
DIGITS = {"class_path": "leyden.data.digits.DigitsDataModule", "init_args": {}}
CLUSTERS = {"class_path": "leyden.data.synthetic.SyntheticClustersDataModule", "init_args": {}}
FUNCTION = {"class_path": "leyden.data.synthetic.SyntheticRegressionDataModule", "init_args": {}}
CONVNET = "leyden.models.conv_net.ConvNet"
COLOURED = {"input_shape": [3, 32, 32], "num_classes": 10}
GREY = {"input_shape": [1, 28, 28], "num_classes": 10}


def store(
    class_path: str = CONVNET,
    arguments: dict[str, Any] | None = None,
    data: dict[str, Any] | None = CIFAR10,
    precision: str = "32-true",
    **changes: Any,
) -> tuple[Path, Task]:
    """Writes `model.ckpt`; its path, and the model in evaluation mode. `changes` replace entries of the file."""
    arguments = COLOURED if arguments is None else arguments
    module, _, name = class_path.rpartition(".")
    torch.manual_seed(0)
    model: Task = getattr(importlib.import_module(module), name)(**arguments).eval()
    config = {"name": "stored", "model": {"class_path": class_path}, "data": data, "trainer": {"precision": precision}}
    hparams = {"_class_path": class_path, "_instantiator": "lightning.pytorch.cli.instantiate_module", **arguments}
    content = {"state_dict": model.state_dict(), "hyper_parameters": hparams, "config": config, "global_step": 7}
    content["pytorch-lightning_version"] = lightning.__version__
    torch.save({name: part for name, part in (content | changes).items() if part is not None}, "model.ckpt")
    return Path("model.ckpt"), model


def pixels(count: int, shape: tuple[int, int, int] = (3, 32, 32)) -> np.ndarray:
    """Random images, (count, C, H, W)."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def save_images(images: np.ndarray, folder: str = "images") -> list[str]:
    """Writes PNG files, and returns their names."""
    Path(folder).mkdir(exist_ok=True)
    names = [f"{folder}/{i:05}.png" for i in range(len(images))]
    for name, image in zip(names, images, strict=True):
        array = image.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
        Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(name)
    return names
