"""Other people's DataModules, samplers, optimizers: a killed run ends in the bits of one that was not, or says so."""

import importlib
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import jsonargparse
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToPILImage, v2

from leyden import PROJECT
from leyden.cli.main import main
from leyden.data.array_dataset import ArrayDataset
from leyden.data.array_loader import LazyDataLoader
from leyden.data.resumable import make_resumable, resumable_copy, seed_setup
from leyden.data.samplers import ClassBalancedSampler, ResumableSampler
from leyden.runs.metrics_logger import logged_steps, rewind_metrics

from ..processes import Server, result

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
FIT = [
    "fit",
    "--trainer.max_epochs=3",
    "--trainer.log_every_n_steps=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--test_after_fit=false",
    "--checkpoint.every_n_train_steps=5",
    "--checkpoint.min_interval=0:00:00",
]
START = """
import runpy, sys
import jsonargparse
import leyden.security
jsonargparse.set_parsing_settings(import_path_allowlist=["loader_parts"])  # as a fork adds its own package
import loader_parts
runpy.run_path(sys.argv[1], run_name="__main__")
"""


class ServerOfParts(Server):
    """Starts `leyden` commands that may import `loader_parts`."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "PYTHONPATH": path}
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(HERE.parent / "forks.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.count = 0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = ServerOfParts()
    yield started
    assert started.process.stdin is not None
    started.process.stdin.close()
    started.process.wait()


@pytest.fixture
def leyden(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """`leyden` commands in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return server


EXACT = {
    "stock": ["--model=loader_parts.Tutorial", "--data=loader_parts.Loaders"],
    "python's random": ["--model=loader_parts.Tutorial", "--data=loader_parts.Loaders", "--data.kind=python"],
    "transforms": ["--model=loader_parts.Tutorial", "--data=loader_parts.FakeImages"],
    "two workers": ["--model=loader_parts.Tutorial", "--data=loader_parts.FakeImages", "--data.num_workers=2"],
    "persistent workers": [
        "--model=loader_parts.Tutorial",
        "--data=loader_parts.FakeImages",
        "--data.num_workers=2",
        "--data.persistent_workers=true",
        "--data.collate=true",
    ],
    "two optimizers": ["--model=loader_parts.TwoOptimizers", "--data=loader_parts.Loaders"],
    "a sampler of the configuration": [
        f"--config={PROJECT / 'configs' / 'convnet_digits.yaml'}",
        "--trainer.limit_train_batches=12",
        "--data.sampler=loader_parts.Typed",
    ],
}


@pytest.mark.parametrize("kind", EXACT)
def test_a_kill_changes_neither_weights_nor_metrics_of_other_peoples_parts(leyden: Server, kind: str) -> None:
    code, text = leyden.run(*FIT, *EXACT[kind], "--name", "whole")
    assert code == 0, text
    assert "exact" not in text
    again = [*FIT[1:], *EXACT[kind]]
    for count in (20, 9):  # in the second epoch, and in the third
        moment = ("on_train_batch_start", count, signal.SIGKILL)
        code, text = leyden.run("fit", *again, "--name", "killed", at=moment)
        assert code == -9, text
        again = ["--ckpt_path", "last"]
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 0, text
    assert "exact" not in text
    assert result("killed") == result("whole")


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of other people's parts, which a configuration may name in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    jsonargparse.set_parsing_settings(import_path_allowlist=["loader_parts"])
    return importlib.import_module("loader_parts")


SHORT = [
    *FIT,
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=1",
    "--model=loader_parts.Tutorial",
    "--data=loader_parts.Loaders",
]
NOT_EXACT = {
    "stream": "Stream is an IterableDataset",
    "batch sampler": "the DataLoader has a batch_sampler of its own",
    "no batches": "the DataLoader has batch_size None",
    "own loader": "train_dataloader returns a OwnLoader",
    "own numbers": "sampler OwnNumbers has random numbers of its own",
    "unsized": "sampler Unsized has no length",
    "combined": "train_dataloader returns a CombinedLoader",
}


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("kind", NOT_EXACT)
def test_what_cannot_be_resumed_exactly_says_so_once_and_trains(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    model = ["--model=loader_parts.FirstOfTwo"] if kind == "combined" else []
    assert main([*SHORT, f"--data.kind={kind}", *model]) == 0
    assert caplog.text.count("exact") == 1
    assert f"a resume of this run will not be exact: {NOT_EXACT[kind]}" in caplog.text


@pytest.mark.usefixtures("parts")
def test_a_resume_that_is_not_exact_says_so_again(caplog: pytest.LogCaptureFixture) -> None:
    assert main([*SHORT, "--data.kind=stream"]) == 0
    assert main(["fit", "--ckpt_path=last", "--name=Tutorial", "--trainer.max_epochs=2"]) == 0
    assert "this resume is not exact: Stream is an IterableDataset" in caplog.text


@pytest.mark.usefixtures("parts")
def test_with_overfit_batches_no_resume_is_promised(caplog: pytest.LogCaptureFixture) -> None:
    assert main([*SHORT, "--trainer.overfit_batches=2"]) == 0
    assert "not be exact: with --trainer.overfit_batches" in caplog.text


DIGITS = ["fit", f"--config={PROJECT / 'configs' / 'convnet_digits.yaml'}"]
SAMPLERS = {
    "loader_parts.ShuffledByPython": "annotated as a Dataset",
    "loader_parts.Unsized": "sampler Unsized has no length (object of type 'Unsized' has no len()): give it a __len__",
    "torch.utils.data.DistributedSampler": "data.sampler is a DistributedSampler, which is not needed here",
    "torch.utils.data.DistributedSampler --data.sampler.num_replicas=1 --data.sampler.rank=0": "leave it out",
}


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_of_a_configuration_that_cannot_be_used_is_refused_in_one_line(
    sampler: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*DIGITS, *f"--data.sampler={sampler}".split()]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert SAMPLERS[sampler] in line


# --- the loaders by themselves --------------------------------------------------------------------------------------


class Position:
    """What a loader reads off a Trainer that is about to fetch a batch."""

    training = True
    overfit_batches = 0
    ckpt_path = train_dataloader = None
    distributed_sampler_kwargs: dict[str, int] | None = None
    global_rank = 0

    def __init__(self, epoch: int = 0, batch: int = 0) -> None:
        done = SimpleNamespace(completed=batch)
        self.current_epoch = epoch
        self.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=done)))
        self.strategy = SimpleNamespace(root_device=torch.device("cpu"))


def batches(loader: DataLoader[Any], epoch: int = 0, batch: int = 0, **options: Any) -> Any:
    """Return the rest of an epoch of the resumable copy of a loader, from a batch on, as nested lists."""
    trainer: Any = Position(epoch, batch)
    vars(trainer).update(options)
    random.seed(time.time())  # whatever was drawn before, it must not show
    np.random.seed(random.randrange(2**32))
    torch.manual_seed(random.randrange(2**32))
    return [torch.as_tensor(x).tolist() for x, *_ in resumable_copy(loader, trainer)]


def transformed(parts: Any, **options: Any) -> DataLoader[Any]:
    """Return a loader whose samples are changed at random by three generators."""
    return DataLoader(parts.FakeData(30, (3, 8, 8), 4, parts.TRANSFORMS), batch_size=8, shuffle=True, **options)


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}])
def test_random_transforms_depend_on_epoch_and_batch_alone(parts: Any, options: dict[str, Any]) -> None:
    whole = batches(transformed(parts), epoch=1)
    assert batches(transformed(parts, **options), epoch=1) == whole
    assert batches(transformed(parts, **options), epoch=1, batch=2) == whole[2:]
    assert batches(transformed(parts), epoch=2) != whole


def test_what_a_collate_function_draws_depends_on_epoch_and_batch_alone(parts: Any) -> None:
    loader = transformed(parts, collate_fn=parts.mixed)
    assert batches(loader, batch=1) == batches(loader)[1:]


class Drawing(Dataset[Any]):
    """Samples that are what the three generators draw."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([random.random(), np.random.rand(), torch.rand(())]), index


def test_every_batch_draws_other_numbers() -> None:
    loader = DataLoader(Drawing(16), batch_size=4)
    drawn = [number for epoch in (0, 1) for batch in batches(loader, epoch=epoch) for number in batch]
    assert len(set(map(tuple, drawn))) == 32


def test_v2_transforms_and_an_image_folder_are_repeated(tmp_path: Path) -> None:
    for number in range(12):
        file = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        ToPILImage()(torch.full((3, 8, 8), number / 12)).save(file)
    change = v2.Compose([v2.RandomResizedCrop(6), v2.RandomHorizontalFlip(), v2.ToImage(), v2.RandomErasing()])
    loader = DataLoader(ImageFolder(str(tmp_path / "images"), change), batch_size=4, shuffle=True)
    assert batches(loader, batch=1) == batches(loader)[1:]


def as_one(indices: list[int]) -> list[Any]:
    """Collate indices for `batches`, which takes the first of what a loader yields."""
    return [indices]


def test_ranks_share_an_epoch_of_a_stock_loader() -> None:
    loader: DataLoader[Any] = DataLoader(range(101), batch_size=10, shuffle=True, collate_fn=as_one)  # type: ignore
    ranks = ({"num_replicas": 2, "rank": rank} for rank in (0, 1))
    shares = [batches(loader, distributed_sampler_kwargs=kwargs) for kwargs in ranks]
    assert [len(batch) for share in shares for batch in share] == [10] * 10
    assert len({index for share in shares for batch in share for index in batch}) == 100


def test_ranks_share_nothing_without_the_samplers_of_lightning() -> None:
    loader: DataLoader[Any] = DataLoader(range(40), batch_size=10, collate_fn=as_one)  # type: ignore
    trainer: Any = Position()
    trainer.distributed_sampler_kwargs = {"num_replicas": 2, "rank": 1}
    assert len(resumable_copy(loader, trainer, use_distributed_sampler=False)) == 4
    assert len(resumable_copy(loader, trainer)) == 2


def test_a_distributed_sampler_of_the_loader_itself_is_not_shared_again() -> None:
    sampler: Any = DistributedSampler(range(40), num_replicas=2, rank=1)  # type: ignore[arg-type]
    loader: DataLoader[Any] = DataLoader(range(40), batch_size=5, sampler=sampler, collate_fn=as_one)  # type: ignore
    share = {"distributed_sampler_kwargs": {"num_replicas": 2, "rank": 1}}
    sampler.set_epoch(3)
    wanted = list(sampler)
    assert [index for batch in batches(loader, epoch=3, **share) for index in batch] == wanted
    assert [index for batch in batches(loader, epoch=4, **share) for index in batch] != wanted


def test_a_stock_loader_keeps_its_options_and_its_datasets_attributes(tmp_path: Path) -> None:
    stock: DataLoader[Any] = DataLoader(Drawing(16), batch_size=5, drop_last=True, num_workers=2, prefetch_factor=4)
    copy = resumable_copy(stock, Position())  # type: ignore[arg-type]
    for name in ("batch_size", "drop_last", "num_workers", "prefetch_factor", "collate_fn", "timeout"):
        assert getattr(copy, name) == getattr(stock, name)
    assert len(copy) == len(stock) == 3
    assert copy.dataset.length == len(copy.dataset) == 16  # type: ignore[attr-defined, arg-type]
    assert pickle.loads(pickle.dumps(copy.dataset)).length == 16  # as workers that are spawned get it
    copy.dataset.length = 12  # type: ignore[attr-defined]  # as a worker_init_fn may do
    assert len(stock.dataset) == 12  # type: ignore[arg-type]


def test_a_sampler_that_only_adds_arguments_to_one_of_torch_is_not_drawn_twice() -> None:
    sampler = ResumableSampler(ClassBalancedSampler(LABELLED), LABELLED, batch_size=2)
    with patch.object(ResumableSampler, "order", side_effect=AssertionError):
        assert sampler.is_repeatable()


def test_an_empty_metrics_csv_is_no_reason_to_refuse_a_resume(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("")
    rewind_metrics(file, 3)
    file.write_text("loss,step\n1.0,2\n0.5,3\n0.")
    rewind_metrics(file, 3)
    assert file.read_text().split() == ["loss,step", "1.0,2"]


LABELLED = ArrayDataset(torch.zeros(6, 1), torch.tensor([0, 0, 0, 0, 1, 1]))


@pytest.mark.usefixtures("parts")
def test_the_steps_of_metrics_csv_are_batches_with_two_optimizers() -> None:
    assert main([*SHORT, "--model=loader_parts.TwoOptimizers"]) == 0
    (file,) = Path("runs").rglob("last.ckpt")
    checkpoint = torch.load(file, weights_only=True)
    assert checkpoint["global_step"] == 6
    assert logged_steps(checkpoint) == 3


# --- the modules that hold them -------------------------------------------------------------------------------------


def test_a_split_that_is_left_to_the_global_seed_is_always_the_same(parts: Any) -> None:
    splits = []
    for _ in range(2):
        torch.rand(5)
        module = parts.FakeImages()
        seed_setup(LightningModule(), module)
        for stage in ("fit", "test"):
            module.setup(stage=stage)
            splits.append(list(module.val.indices))
    assert splits == splits[:1] * 4


def test_datasets_without_a_module_of_their_own_are_resumed_too() -> None:
    data = LightningDataModule.from_datasets(TensorDataset(torch.arange(40.0)), batch_size=8)
    data.trainer = Position(epoch=2, batch=3)  # type: ignore[assignment]
    make_resumable(LightningModule(), data)
    loader = data.train_dataloader()
    assert isinstance(loader, LazyDataLoader)
    assert len(list(loader)) == 2


def test_a_model_that_has_its_own_loader_is_resumed_too() -> None:
    class Own(LightningModule):
        def train_dataloader(self) -> Any:
            return DataLoader(Drawing(40), batch_size=8)

    model = Own()
    model._trainer = Position(batch=3)  # type: ignore[assignment]
    make_resumable(model, None)
    assert len(list(model.train_dataloader())) == 2


def test_a_data_module_can_still_be_sent_to_other_processes(parts: Any) -> None:
    data = parts.FakeImages()
    seed_setup(LightningModule(), data)
    make_resumable(LightningModule(), data)
    sent = pickle.loads(pickle.dumps(data))
    sent.trainer = Position()
    sent.setup(stage="fit")
    assert isinstance(sent.train_dataloader(), LazyDataLoader)


def test_a_step_that_fetches_its_batches_itself_starts_with_the_first() -> None:
    class Fetching(BoringModel):
        seen = 0

        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            (batch,), _, _ = next(dataloader_iter)
            self.seen += len(batch)
            return super().training_step(batch, 0)

    model = Fetching()
    data = LightningDataModule.from_datasets(TensorDataset(torch.rand(40, 32)), batch_size=8)
    make_resumable(model, data)
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(max_epochs=2, accelerator="cpu", limit_val_batches=0, **silent).fit(model, data)  # type: ignore[arg-type]
    assert model.seen == 80


@pytest.mark.usefixtures("parts")
def test_between_epochs_there_are_no_scores_to_save() -> None:
    assert main([*DIGITS, *FIT[1:], "--trainer.max_epochs=1", "--trainer.limit_train_batches=9"]) == 0
    (file,) = Path("runs").rglob("last.ckpt")
    assert "epoch_so_far" not in torch.load(file, weights_only=True)
