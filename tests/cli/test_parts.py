"""What others' optimizers, schedules and datasets raise: one line that names them, if possible before a step."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonargparse
import pytest
import torch

from leyden import PROJECT
from leyden.cli.main import main

pytestmark = pytest.mark.slow

DIGITS = str(PROJECT / "configs" / "convnet_digits.yaml")
SHORT = (
    "--trainer.limit_train_batches 8 --trainer.limit_val_batches 2 --test_after_fit false "
    "--trainer.enable_progress_bar false --trainer.max_epochs"
)
PLATEAU = "--model.lr_scheduler lightning.pytorch.cli.ReduceLROnPlateau --model.lr_scheduler.monitor"
ONE_CYCLE = "--model.lr_scheduler OneCycleLR --model.lr_scheduler.max_lr 0.1"
STEP = "--model.lr_interval step"

REFUSED = {  # the words after `leyden fit --config configs/convnet_digits.yaml`, and the line
    "--model.optimizer Adam --model.optimizer.betas [0.9,2.0]": "Adam: Invalid beta parameter at index 1: 2.0",
    "--model.optimizer.lr=-1": "SGD: Invalid learning rate: -1.0",
    "--model.optimizer Muon": "Muon only supports 2D parameters",
    "--model.optimizer SparseAdam": "SparseAdam does not support dense gradients",
    f"--model.optimizer Adagrad {ONE_CYCLE} {STEP}": "OneCycleLR: optimizer must support momentum",
    "--model.lr_scheduler.T_max 0": "CosineAnnealingLR(T_max=0): ZeroDivisionError",
    "--model.lr_scheduler StepLR --model.lr_scheduler.step_size 0": "StepLR(step_size=0): ZeroDivisionError",
    f"{ONE_CYCLE} --model.lr_scheduler.total_steps 7 {STEP}": "total steps is 7, but the run has 8 steps",
    f"{ONE_CYCLE} --model.lr_scheduler.total_steps 3 {STEP} --trainer.accumulate_grad_batches 2": "the run has 4 steps",
    f"{ONE_CYCLE} --model.lr_scheduler.total_steps 2 {STEP} --trainer.max_steps 3": "but the run has 3 steps",
    f"{ONE_CYCLE} --model.lr_scheduler.total_steps 2 --trainer.max_epochs 4": "but the run has 4 epochs",
    "--model.lr_scheduler torch.optim.lr_scheduler.ReduceLROnPlateau": "use lightning.pytorch.cli.ReduceLROnPlateau",
    f"{PLATEAU} val/loss {STEP}": "set --model.lr_interval epoch",
    f"{PLATEAU} val/loss --trainer.check_val_every_n_epoch null --trainer.val_check_interval 9": "val_check_interval 8",
}
ACCEPTED = [
    f"{ONE_CYCLE} {STEP}",
    f"{ONE_CYCLE} --model.lr_scheduler.total_steps 8 {STEP}",
    f"{ONE_CYCLE} --model.lr_scheduler.total_steps 4 {STEP} --trainer.accumulate_grad_batches 2",
    f"{ONE_CYCLE} --model.lr_scheduler.total_steps 1",
    f"{PLATEAU} val/loss --trainer.check_val_every_n_epoch null --trainer.val_check_interval 4",
    "--model.lr_scheduler WarmupCosine --model.lr_scheduler.warmup_steps 2 --model.lr_interval step",
]
PARTS = """
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from torch.utils.data import DataLoader, Dataset

from leyden.data.datamodules import ArrayDataModule


class Images(Dataset):
    def __init__(self, broken: int) -> None:
        self.broken = broken

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int):
        if index == self.broken:
            raise OSError(5, "Input/output error", "image.png")
        return torch.rand(1, 16, 16), index % 10


class Files(LightningDataModule):
    input_shape, num_classes = (1, 16, 16), 10

    def __init__(self, broken: int, num_workers: int = 0) -> None:
        super().__init__()
        self.broken, self.num_workers = broken, num_workers

    def setup(self, stage: str) -> None:
        if self.broken == -1:
            open("nowhere.csv")

    def train_dataloader(self):
        return DataLoader(Images(self.broken), batch_size=16, num_workers=self.num_workers)

    def val_dataloader(self):
        return DataLoader(Images(64), batch_size=16)


class Arrays(ArrayDataModule):
    input_shape, num_classes = (1, 16, 16), 10

    def __init__(self, kind: str, val_size: int = 20, **kwargs) -> None:
        super().__init__(val_size=val_size, **kwargs)
        self.kind = kind

    def load_arrays(self):
        x, y = torch.rand(100, *self.input_shape), torch.arange(100) % 10
        other = {"scalar": (x, torch.tensor(3)), "short": (x, y[:50]), "gradient": (x.requires_grad_(), y)}
        other |= {"numpy": (x.detach().numpy(), y.numpy())}
        return (x.detach(), y), other[self.kind]


class Foreign(LightningModule):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.layer = kind, torch.nn.Linear(256, 10)

    def forward(self, x):
        return self.layer(x.flatten(1))

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        if self.kind == "beta":
            return torch.optim.Adam(self.parameters(), betas=(0.9, 2.0))
        optimizer = torch.optim.SGD(self.parameters(), 0.1)
        if self.kind == "plateau":
            return [optimizer], [torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, but for a package that is none of this project's and may be imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "others_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    jsonargparse.set_parsing_settings(import_path_allowlist=["others_parts"])
    yield
    sys.modules.pop("others_parts", None)


@pytest.fixture
def fit(capfd: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str]]:
    """Trains for an epoch of 8 steps; returns the exit code and what is on stderr."""

    def run(words: str) -> tuple[int, str]:
        code = main(["fit", "--config", DIGITS, *f"{SHORT} 1 {words}".split()])
        return code, capfd.readouterr().err.strip()

    return run


@pytest.mark.parametrize("words", REFUSED)
def test_an_optimizer_or_a_schedule_that_cannot_work_is_refused_before_a_step(
    words: str, fit: Callable[[str], tuple[int, str]]
) -> None:
    code, line = fit(words)
    assert code == 2
    assert REFUSED[words] in line.splitlines()[-1]
    assert "Traceback" not in line
    assert not list(Path("runs").glob("*/*"))  # nothing was trained


@pytest.mark.parametrize("words", ACCEPTED)
def test_a_schedule_that_reaches_to_the_end_of_the_run_is_accepted(
    words: str, fit: Callable[[str], tuple[int, str]]
) -> None:
    assert fit(words)[0] == 0


def test_callbacks_and_schedules_of_this_project_go_by_their_short_names(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--trainer.callbacks+=ChannelsLast --model.lr_scheduler WarmupCosine --print_config"
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--config", DIGITS, *words.split()])
    text = capsys.readouterr().out
    assert "class_path: leyden.callbacks.acceleration.ChannelsLast" in text
    assert "class_path: leyden.models.lr_schedules.WarmupCosine" in text


def test_the_check_of_a_schedule_changes_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["fit", "--config", DIGITS, *f"{SHORT} 1 --model.dropout 0.3".split()]
    assert main(words) == 0
    monkeypatch.setattr("leyden.cli.preflight.check_optimizer", lambda *_: None)
    assert main(words) == 0
    files = sorted(Path("runs").glob("*/*/checkpoints/last.ckpt"))
    first, second = (torch.load(file, weights_only=True)["state_dict"] for file in files)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_plateau_schedule_counts_validations_where_they_are_rarer_than_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stepped: list[int] = []

    original = torch.optim.lr_scheduler.ReduceLROnPlateau.step

    def step(schedule: torch.optim.lr_scheduler.ReduceLROnPlateau, metrics: torch.Tensor) -> None:
        original(schedule, metrics)
        stepped.append(schedule.last_epoch)

    monkeypatch.setattr("torch.optim.lr_scheduler.ReduceLROnPlateau.step", step)
    words = f"{SHORT} 4 {PLATEAU} val/loss --trainer.check_val_every_n_epoch 2"
    assert main(["fit", "--config", DIGITS, *words.split()]) == 0
    assert stepped == [1, 2]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("broken", "code"), [(3, 2), (40, 1)])
def test_data_that_cannot_be_read_end_the_run_in_one_line(
    broken: int, code: int, workers: int, fit: Callable[[str], tuple[int, str]]
) -> None:
    """In the first batch it is a mistake, after a step it is a fault."""
    got, line = fit(f"--data others_parts.Files --data.broken {broken} --data.num_workers {workers}")
    assert got == code
    assert "a batch cannot be loaded" in line
    assert "[Errno 5] Input/output error: 'image.png'" in line
    assert "others_parts.py, line 18)" in line


def test_a_missing_file_of_a_datamodule_is_named(fit: Callable[[str], tuple[int, str]]) -> None:
    code, line = fit("--data others_parts.Files --data.broken=-1")
    assert code == 2
    assert line.endswith("error: Files: [Errno 2] No such file or directory: 'nowhere.csv'")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("scalar", "the test arrays are (100, 1, 16, 16) and (), but"),
        ("short", "are (100, 1, 16, 16) and (50,), but"),
        ("gradient", "require a gradient"),
        ("numpy", "must be tensors"),
    ],
)
def test_arrays_that_make_no_dataset_are_refused(kind: str, reason: str, fit: Callable[[str], tuple[int, str]]) -> None:
    code, line = fit(f"--data others_parts.Arrays --data.kind {kind}")
    assert code == 2
    assert "Arrays.load_arrays" in line
    assert reason in line


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("beta", 2, "Adam: Invalid beta parameter"),
        ("plateau", 2, "must include a monitor"),
        ("cycle", 1, "OneCycleLR: Tried to step 4 times"),  # found while it trains
    ],
)
def test_the_optimizer_of_a_foreign_module_is_named(
    kind: str, code: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = f"--model others_parts.Foreign --model.kind {kind} --data others_parts.Files --data.broken 64 {SHORT} 2"
    words += " --trainer.limit_val_batches 0"
    assert main(["fit", *words.split()]) == code
    assert reason in capfd.readouterr().err.strip().splitlines()[-1]
