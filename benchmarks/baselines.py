"""Baselines that leyden is compared with, each in its usual form and as fast as that form can be.

(a) `bare_epoch`: the loop that one writes in plain torch, over tensors in memory. Nothing can be much faster, least of
    all with a fused optimizer.
(b) `per_sample_loader`: torchvision's way, image after image through PIL and a list of transforms.
(c) `usual_module`: metric objects that are called and logged at each step, as most templates do, fed by (b).
(d) `augmented_transforms`: torchvision's v2 transforms, image after image.
(e) `Example`: the network of the widely used MNIST example, and how that is trained.

As a command on MNIST, `python benchmarks/baselines.py bare 3` trains (a) for 3 epochs, `usual 3` (c), and `example 10`
trains (e) until 99 % of the test images are right, for 10 epochs at most; one more number is the seed.
"""

import gzip
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Batch = tuple[Tensor, Tensor]
MEAN, STD = 0.1307, 0.3081  # of MNIST


def mnist(root: Path, split: str) -> Batch:
    """Return the official images (N, 28, 28) and labels (N,) of `train` or `t10k`, as uint8."""

    def read(name: str, header: int, shape: tuple[int, ...]) -> Tensor:
        content = gzip.decompress((root / "MNIST" / "raw" / name).read_bytes())
        return torch.frombuffer(bytearray(content), dtype=torch.uint8)[header:].view(shape)

    return read(f"{split}-images-idx3-ubyte.gz", 16, (-1, 28, 28)), read(f"{split}-labels-idx1-ubyte.gz", 8, (-1,))


def bare_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    batch_size: int,
    steps: int | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    scheduler: Any = None,
    label_smoothing: float = 0.0,
    bf16: bool = False,
) -> None:
    """Train one epoch in plain torch.

    Args:
        network: The network.
        optimizer: Its optimizer.
        x: All inputs, (N, ...), on the network's device.
        y: All labels, (N,).
        batch_size: Samples a step.
        steps: To stop after so many; None for the whole epoch.
        prepare: What is done to a batch of inputs first; None where they are ready.
        scheduler: Stepped after each step.
        label_smoothing: As in cross-entropy.
        bf16: Whether to compute in bfloat16 under autocast.
    """
    for index in torch.randperm(len(y), device=y.device).split(batch_size)[:steps]:
        batch = x.index_select(0, index)  # several times as fast as x[index]
        if prepare is not None:
            batch = prepare(batch)
        optimizer.zero_grad()
        with torch.autocast(y.device.type, torch.bfloat16) if bf16 else nullcontext():
            loss = F.cross_entropy(network(batch), y.index_select(0, index), label_smoothing=label_smoothing)
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


class Pictures(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images one by one, as from torchvision's MNIST and CIFAR10 classes.

    Args:
        x: Grey images (N, H, W) or colour images (N, H, W, 3), uint8.
        y: Labels (N,).
        transform: What is done to each PIL image.
    """

    def __init__(self, x: Tensor, y: Tensor, transform: Callable[[Any], Tensor]) -> None:
        self.x = x.numpy()
        self.y = y.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.x[index])), self.y[index]


def per_sample_loader(
    x: Tensor,
    y: Tensor,
    batch_size: int,
    transform: Callable[[Any], Tensor],
    shuffle: bool = True,
    num_workers: int = 0,
) -> Any:
    """Return the loader in its most common form; see `Pictures` for the arguments."""
    dataset = Pictures(x, y, transform)
    return torch.utils.data.DataLoader(dataset, batch_size, shuffle=shuffle, num_workers=num_workers)


def plain_transform(mean: Any, std: Any) -> Callable[[Any], Tensor]:
    """Return torchvision's ToTensor and Normalize."""
    from torchvision import transforms

    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])


def augmented_transforms(mean: Any, std: Any) -> dict[str, Callable[[Any], Tensor]]:
    """Return crop, flip and normalisation by torchvision v2: on PIL images, and on tensors."""
    from torchvision.transforms import v2

    draw = [v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()]
    scale = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    return {
        "v2 on PIL images": v2.Compose([*draw, v2.ToImage(), *scale]),
        "v2 on tensors": v2.Compose([v2.ToImage(), *draw, *scale]),
    }


class Example(nn.Module):
    """Two 3x3 convolutions of 32 and 64 channels, max-pooling, dropout and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(9216, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 1, 28, 28) to logits (B, 10)."""
        return self.layers(x)


def train_example(root: Path, target: float, max_epochs: int) -> Iterator[float]:
    """Train (e) with Adadelta, rate 1 times 0.7 after each epoch, batch size 64; yield the test accuracies."""
    network = Example()
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    transform = plain_transform(MEAN, STD)
    train = per_sample_loader(*mnist(root, "train"), 64, transform)
    test = per_sample_loader(*mnist(root, "t10k"), 1000, transform, shuffle=False)
    for _ in range(max_epochs):
        network.train()
        for x, y in train:
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
        scheduler.step()
        network.eval()
        with torch.no_grad():
            right = sum(int((network(x).argmax(1) == y).sum()) for x, y in test)
        yield right / 10_000
        if right / 10_000 >= target:
            return


def perceptron() -> nn.Module:
    """Return the network of configs/mlp_adam_mnist.yaml."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def run_bare(root: Path, epochs: int) -> float:
    """Train (a) on 55 000 images and return the test accuracy."""

    def images(split: str) -> Batch:
        x, y = mnist(root, split)
        return x.unsqueeze(1).float().div_(255).sub_(MEAN).div_(STD), y.long()

    x, y = images("train")
    x_test, y_test = images("t10k")
    network = perceptron()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    for _ in range(epochs):
        bare_epoch(network, optimizer, x[:55_000], y[:55_000], 128)
    with torch.no_grad():
        return float((network(x_test).argmax(1) == y_test).float().mean())


def usual_module(network: nn.Module, optimizer: Callable[..., torch.optim.Optimizer]) -> Any:
    """Return a LightningModule in its most common form: loss and accuracy are metric objects, logged at each step."""
    from lightning.pytorch import LightningModule
    from torchmetrics import MeanMetric
    from torchmetrics.classification import MulticlassAccuracy

    class UsualModule(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            for split in ("train", "val", "test"):
                setattr(self, f"{split}_loss", MeanMetric())
                setattr(self, f"{split}_acc", MulticlassAccuracy(10, average="micro"))

        def step(self, batch: Any, split: str) -> Tensor:
            x, y = batch
            logits = self.network(x)
            loss = F.cross_entropy(logits, y)
            mean, accuracy = getattr(self, f"{split}_loss"), getattr(self, f"{split}_acc")
            mean(loss)
            accuracy(logits.argmax(dim=1), y)
            self.log(f"{split}/loss", mean, on_step=False, on_epoch=True, prog_bar=True)
            self.log(f"{split}/acc", accuracy, on_step=False, on_epoch=True, prog_bar=True)
            return loss

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.step(batch, "train")

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.step(batch, "val")

        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.step(batch, "test")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return optimizer(self.parameters())

    return UsualModule()


def run_usual(root: Path, epochs: int) -> None:
    """Train (c) with a logger, a checkpoint of the best epoch and the progress bar, and test it."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    x, y = mnist(root, "train")
    transform = plain_transform(MEAN, STD)
    order = torch.randperm(len(y))
    train = per_sample_loader(x[order[5000:]], y[order[5000:]], 128, transform)
    val = per_sample_loader(x[order[:5000]], y[order[:5000]], 128, transform, shuffle=False)
    test = per_sample_loader(*mnist(root, "t10k"), 128, transform, shuffle=False)
    with tempfile.TemporaryDirectory() as folder:
        best = ModelCheckpoint(monitor="val/loss", save_last=True)
        trainer = Trainer(max_epochs=epochs, logger=CSVLogger(folder), callbacks=[best])
        trainer.fit(usual_module(perceptron(), torch.optim.Adam), train, val)
        trainer.test(dataloaders=test, ckpt_path="best", weights_only=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    data = Path(os.environ.get("LEYDEN_DATA", "data"))  # leyden is not imported: the memory of `bare` is measured
    what, epochs = sys.argv[1], int(sys.argv[2])
    torch.manual_seed(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
    if what == "example":
        for accuracy in train_example(data, 0.99, epochs):
            print(f"test accuracy {accuracy:.4f}", flush=True)
    elif what == "usual":
        run_usual(data, epochs)
    else:
        print(f"test accuracy {run_bare(data, epochs):.4f}")
