"""Measure transfer learning with few labelled images: print commands and a table of test accuracies.

Run as `python benchmarks/transfer.py`; it reads CIFAR-10 and writes to `runs/`. A ResNet-18 learns five of the ten
classes from 20 000 images. The other five are then learned from 100 or 500 images, in 320 steps each, in four ways:
with the frozen backbone of that network, with the same backbone fine-tuned in the second half, with a frozen backbone
of random weights, and from scratch with nothing frozen. Each is repeated with three seeds (initial weights, order,
dropout); the images and the source network stay the same.

Measured on two cores of an Intel Xeon: docs/results.md has the means of the three seeds. The source network has 76.0 %
on its own classes. Seeds differ by some points, most from scratch (40.6 to 52.6 % from 100 images). With 100 images the
best validation loss comes before the backbone is unfrozen, so fine-tuning changes nothing.
"""

import csv
import statistics
import subprocess
import sys
from pathlib import Path

from leyden import PROJECT
from leyden.checkpoints.find import find_checkpoint

RUNS = Path("runs")
SEEDS = (0, 1, 2)
CONFIG = PROJECT / "configs" / "transfer_resnet50_cifar10.yaml"
FINETUNE = PROJECT / "configs" / "with" / "finetune.yaml"
SMALL = ["--model.backbone", "resnet18", "--model.image_size", "32"]
SOURCE = ["--data.classes", "[0,1,2,3,4]", "--data.batch_size", "128", "--trainer.max_epochs", "5"]
# airplane to deer above, dog to truck below, 25 000 training images each
TARGET = ["--data.classes", "[5,6,7,8,9]", "--data.batch_size", "32", "--trainer.limit_val_batches", "20"]
BUDGETS = {100: 80, 500: 20}  # images: epochs; all others are held out for validation, which uses 640 of them, 20 times


def fit(name: str, *flags: str, overlay: Path | None = None) -> float:
    """Run `leyden fit` and return the test accuracy in percent."""
    configs = [word for config in (CONFIG, overlay) if config for word in ("--config", str(config))]
    command = ["leyden", "fit", *configs, "--name", name, *SMALL, *flags, "--trainer.enable_progress_bar", "false"]
    print(" ".join(command), flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    metrics = find_checkpoint("best", RUNS, name, "best").parents[1] / "metrics.csv"
    with metrics.open(newline="", encoding="utf-8") as rows:
        return 100 * float(next(row["test/acc"] for row in csv.DictReader(rows) if row.get("test/acc")))


source = fit("transfer_source", "--model.weights", "null", "--model.freeze", "false", *SOURCE)
weights = str(find_checkpoint("best", RUNS, "transfer_source", "best"))
print(f"the source network has {source:.1f} % on its own five classes")
arms: dict[str, tuple[list[str], Path | None]] = {
    "transfer_frozen": (["--model.weights", weights], None),
    "transfer_finetuned": (["--model.weights", weights], FINETUNE),
    "random_frozen": (["--model.weights", "null"], None),
    "from_scratch": (["--model.weights", "null", "--model.freeze", "false"], None),
}
table = []
for images, epochs in BUDGETS.items():
    budget = ["--data.val_size", str(25_000 - images), "--trainer.max_epochs", str(epochs)]
    budget += ["--trainer.check_val_every_n_epoch", str(epochs // 20)]
    for arm, (flags, overlay) in arms.items():
        if overlay:
            flags = [*flags, "--trainer.callbacks.unfreeze_backbone_at_epoch", str(epochs // 2)]
        seeds = (["--seed_everything", str(seed)] for seed in SEEDS)
        scores = [fit(f"{arm}_{images}", *flags, *TARGET, *budget, *seed, overlay=overlay) for seed in seeds]
        each = "  ".join(f"{score:.1f}" for score in scores)
        table.append(f"{images:6}  {arm:20}{statistics.mean(scores):8.1f} %     {each}")
print(f"\nimages  {'':20}mean test/acc  seeds {', '.join(map(str, SEEDS))}")
print("\n".join(table))
