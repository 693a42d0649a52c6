"""`leyden show`: what is in the data, and the batch that `fit` gives to the network first."""

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from leyden import PROJECT
from leyden.cli import batch_picture, show
from leyden.cli.main import main
from leyden.data.digits import DigitsDataModule
from leyden.data.image_files import ImageReader
from leyden.models.task import Task

from ..data.pictures import COLOURS, make_folder
from ..ecosystem import loader_parts
from .drawn import images_in

CONFIGS = PROJECT / "configs"
DIGITS = ["--config", str(CONFIGS / "convnet_digits.yaml")]
FOLDER = ["--data", "ImageFolderDataModule", "--data.root", "pets", "--data.image_size", "16"]
FLIP = ["--data.augment+=leyden.data.transforms.RandomHorizontalFlip"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `leyden show` with these arguments and returns what it printed to stdout."""

    def run(*args: str) -> str:
        assert main(["show", *args]) == 0
        return capfd.readouterr().out

    return run


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Runs `leyden show`, which must end with code 2 and no picture, and returns the lines on stderr."""

    def run(*args: str) -> list[str]:
        assert main(["show", *args]) == 2
        assert not Path("batch.png").exists()
        lines = capfd.readouterr().err.splitlines()
        assert [line.startswith("error: ") for line in lines].count(True) == 1
        assert lines[-1].startswith("error: ")
        return lines

    return run


def table(text: str) -> dict[str, list[int]]:
    """The counts of train, val and test by class."""
    rows = re.findall(r"^ {6}(.*\S) +([\d,]+) +([\d,]+) +([\d,]+)$", text, re.MULTILINE)
    return {name: [int(number.replace(",", "")) for number in numbers] for name, *numbers in rows}


def first_batches(monkeypatch: pytest.MonkeyPatch, *args: str) -> list[Any]:
    """The batches that `fit` and `show` get first."""
    batches: list[Any] = []
    training_step, draw = Task.training_step, show.draw_batch

    def kept(self: LightningModule, batch: Any, batch_idx: int) -> Tensor:
        batches.append([part.clone() for part in batch])
        return training_step(self, batch, batch_idx)  # type: ignore[arg-type]

    def drawn(path: Path, batch: Any, *rest: Any) -> str:
        batches.append(batch)
        return draw(path, batch, *rest)

    monkeypatch.setattr(Task, "training_step", kept)
    monkeypatch.setattr(show, "draw_batch", drawn)
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=0"]
    assert main(["fit", "--model", "leyden.models.mlp.MLP", *args, *short, "--test_after_fit=false"]) == 0
    assert main(["show", *args]) == 0
    assert len(batches) == 2
    return batches


SAME = {
    "digits": [*DIGITS, "--seed_everything", "3"],
    "folder": [*FOLDER, *FLIP, "--data.batch_size=12"],
    "not cached": [*FOLDER, *FLIP, "--data.cache=false", "--data.sampler=ClassBalancedSampler"],
    "workers": [*FOLDER, *FLIP, "--data.cache=false", "--data.num_workers=2"],
}


QUICK = ("digits", "folder")


@pytest.mark.parametrize(
    "args", [pytest.param(args, id=name, marks=[pytest.mark.slow] * (name not in QUICK)) for name, args in SAME.items()]
)
def test_the_batch_is_to_the_bit_the_one_that_fit_trains_on_first(
    args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(Path("pets"), 20)
    (x, y), (x_shown, y_shown) = first_batches(monkeypatch, *args)
    assert torch.equal(x, x_shown)
    assert torch.equal(y, y_shown)


def test_another_seed_shows_another_batch(shown: Callable[..., str]) -> None:
    for seed in ("0", "1"):
        shown(*DIGITS, "--seed_everything", seed, "--output", f"{seed}.png")
    assert Path("0.png").read_bytes() != Path("1.png").read_bytes()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_picture_has_the_pixels_of_the_files(shown: Callable[..., str], channels: int) -> None:
    make_folder(Path("pets"), 20)
    text = shown(*FOLDER, f"--data.channels={channels}", "--data.batch_size=20", "--count=10")
    assert text.splitlines()[-1] == "file  batch.png: 10 of 20 images of the first training batch"
    reader = ImageReader(channels, 16)
    files = {
        np.broadcast_to(np.moveaxis(reader.read(file), 0, 2), (16, 16, 3)).tobytes()
        for file in Path("pets").glob("*/*")
    }
    drawn = images_in(Path("batch.png"), 10, 16, text_lines=1)
    assert len({image.tobytes() for image in drawn}) == 10
    assert {image.tobytes() for image in drawn} <= files


def test_the_picture_has_augmented_images(shown: Callable[..., str]) -> None:
    make_folder(Path("pets"), 20)
    shown(*FOLDER, "--count=4")
    plain = images_in(Path("batch.png"), 4, 16, text_lines=1)
    shown(*FOLDER, *FLIP, "--data.augment.p=1", "--count=4")
    for image, flipped in zip(plain, images_in(Path("batch.png"), 4, 16, text_lines=1), strict=True):
        assert np.array_equal(image[:, ::-1], flipped)


def test_the_picture_of_the_documentation_is_that_of_its_command(shown: Callable[..., str]) -> None:
    shown(*DIGITS)
    pairs = zip(
        *(images_in(file, 16, 28, 1) for file in (PROJECT / "docs" / "batch.png", Path("batch.png"))), strict=True
    )
    for documented, drawn in pairs:
        assert np.abs(documented.astype(int) - drawn).max() <= 2


def test_each_image_has_the_name_of_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(Path("pets"), 20)
    drawn: list[Any] = []
    monkeypatch.setattr(batch_picture, "draw_images", lambda *args: drawn.extend(args))
    assert main(["show", *FOLDER]) == 0
    _, _, images, texts, _ = drawn
    assert len(images) == 32
    assert {*texts} == {*COLOURS}
    for image, text in zip(images, texts, strict=True):
        assert image.mean((0, 1)).argmax() == {"red": 0, "green": 1, "blue": 2}[text]


def test_the_counts_are_those_of_the_files(shown: Callable[..., str]) -> None:
    make_folder(Path("pets/train"), 9)
    make_folder(Path("pets/val"), 4, first=20)
    make_folder(Path("pets/test"), 3, first=30)
    for file in Path("pets/test/red").iterdir():
        file.unlink()
    Path("pets/train/notes.txt").touch()
    text = shown(*FOLDER)
    counted = Counter(str(file.parent.relative_to("pets")) for file in Path("pets").glob("*/*/*"))
    expected = {name: [counted[f"{split}/{name}"] for split in ("train", "val", "test")] for name in COLOURS}
    assert table(text) == {**expected, "all": [sum(column) for column in zip(*expected.values(), strict=True)]}
    assert table(text)["red"] == [9, 4, 0]
    assert "other files: 1 .txt" in text


def test_the_cache_is_built_once_and_its_size_and_place_are_named(shown: Callable[..., str]) -> None:
    make_folder(Path("pets"), 20)
    text = shown(*FOLDER)
    assert "data  reading 60 images" in text
    (file,) = Path("cache").glob("*/pixels-*.bin")
    assert file.stat().st_size == 60 * 3 * 16 * 16
    assert f"size  60 samples of 3 x 16 x 16 uint8: 0.0 MB in {file}" in text.splitlines()
    assert "copies  none: no two files have the same content" in text.splitlines()
    assert "reading" not in shown(*FOLDER)
    assert "read from their files" in shown(*FOLDER, "--data.cache=false")


@pytest.mark.slow
def test_the_cache_is_that_of_the_training_that_follows(
    shown: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    make_folder(Path("pets"), 20)
    assert "data  reading 60 images" in shown(*FOLDER)
    assert main(["fit", "--model=leyden.models.mlp.MLP", *FOLDER, "--trainer.fast_dev_run=true"]) == 0
    assert "reading" not in capfd.readouterr().out


def test_copies_are_named_by_the_split_in_which_they_are(shown: Callable[..., str]) -> None:
    make_folder(Path("pets/train"), 9)
    make_folder(Path("pets/test"), 3, first=30)
    shutil.copy("pets/train/red/0.png", "pets/train/red/again.png")
    shutil.copy("pets/train/red/0.png", "pets/train/red/more.png")
    text = shown(*FOLDER)
    (line,) = [line for line in text.splitlines() if line.startswith("copies")]
    assert re.fullmatch(
        r"copies  of 1 image in \w+: train/red/0\.png = train/red/again\.png = train/red/more\.png", line
    )
    shutil.copy("pets/train/red/1.jpg", "pets/test/red/1.jpg")
    text = shown(*FOLDER, "--data.allow_leaks=true")
    assert re.search(r"^copies  of 1 image in several splits: .*test/red/1\.jpg \(test\)", text, re.MULTILINE)


def test_a_copy_in_another_split_is_refused_and_named(refused: Callable[..., list[str]]) -> None:
    make_folder(Path("pets/train"), 9)
    make_folder(Path("pets/test"), 3, first=30)
    shutil.copy("pets/train/red/0.png", "pets/test/red/copy.png")
    lines = refused(*FOLDER)
    assert any(line.startswith("copies  ") and "test/red/copy.png (test)" in line for line in lines)
    assert "--data.allow_leaks true" in lines[-1]


def test_broken_files_are_named_and_refused_unless_they_are_skipped(
    refused: Callable[..., list[str]], shown: Callable[..., str]
) -> None:
    make_folder(Path("pets"), 20)
    Path("pets/red/empty.png").touch()
    Path("pets/blue/text.jpg").write_text("no image")
    lines = refused(*FOLDER)
    assert [line for line in lines if line.startswith("broken")] == [
        "broken  blue/text.jpg: not an image",
        "broken  red/empty.png: the file is empty",
    ]
    text = shown(*FOLDER, "--data.skip_broken=true")
    assert "2 broken left out" in text
    assert sum(table(text)["all"]) == 60


def test_the_images_of_digits_and_cifar10_are_counted_by_class(shown: Callable[..., str], cifar10_root: Path) -> None:
    counts = table(shown(*DIGITS))
    data = DigitsDataModule()
    data.setup()
    for i, split in enumerate((data.train_set, data.val_set, data.test_set)):
        assert [counts[str(digit)][i] for digit in range(10)] == [int((split.labels == d).sum()) for d in range(10)]
    text = shown(
        "--config", str(CONFIGS / "convnet_cifar10.yaml"), "--data.root", str(cifar10_root), "--data.val_size=50"
    )
    assert sum(table(text)["airplane"]) == 36
    assert table(text)["all"] == [250, 50, 60]
    assert "360 samples of 3 x 32 x 32 uint8: 1.1 MB" in text


@pytest.mark.parametrize(("config", "rows"), [("mlp_vectors", 11), ("linear_regression", 1)])
def test_vectors_are_counted_without_a_picture(shown: Callable[..., str], config: str, rows: int) -> None:
    text = shown("--config", str(CONFIGS / f"{config}.yaml"))
    assert len(table(text)) == rows
    assert table(text)["all"] == [4000, 1000, 1000]
    assert re.search(r"^batch  \(\d+, 10\) float32, .*: no images, so there is no picture$", text, re.MULTILINE)
    assert not Path("batch.png").exists()


def test_any_datamodule_is_shown(shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leyden.security.ALLOWED_PACKAGES", ["leyden", loader_parts.__name__])
    text = shown("--data", f"{loader_parts.__name__}.FakeImages")
    assert "train 90 samples in 12 batches" in text
    assert "val   20 samples in 3 batches" in text
    assert "file  batch.png: 8 of 8 images" in text


def test_nothing_but_the_picture_and_the_cache_is_written(shown: Callable[..., str]) -> None:
    make_folder(Path("pets"), 20)
    text = shown(*FOLDER, "--name", "mine", "--trainer.max_epochs", "7", "--wandb.mode", "offline")
    assert {path.name for path in Path().iterdir()} == {"pets", "cache", "batch.png"}
    assert "in place of" not in text


def test_an_earlier_picture_is_replaced_which_is_said(shown: Callable[..., str]) -> None:
    Path("mine.png").touch()
    assert shown(*DIGITS, "--output=mine.png").splitlines()[-1].endswith(", in place of an earlier file")
    assert not Path("batch.png").exists()


def test_a_checkpoint_names_the_data_to_show(shown: Callable[..., str], capfd: pytest.CaptureFixture[str]) -> None:
    make_folder(Path("pets"), 20)
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--test_after_fit=false"]
    assert main(["fit", "--model=leyden.models.mlp.MLP", *FOLDER, "--data.batch_size=5", *short]) == 0
    capfd.readouterr()
    text = shown("--ckpt_path", "last")
    assert table(text)["all"] == [42, 9, 9]
    assert "5 of 5 images" in text


MISTAKES = {
    "": ["no data", "--config configs/convnet_digits.yaml"],
    "--data DigitsDataModul": ["did you mean `DigitsDataModule`"],
    "--data DigitsDataModule --data.num_worker 2": ["DigitsDataModule", "did you mean `num_workers`"],
    "--data DigitsDataModule --trainer.max_epoch 2": ["did you mean `trainer.max_epochs`"],
    "--data DigitsDataModule --model ConvNett": ["did you mean `ConvNet`"],
    "--data DigitsDataModule --data.val_size 0": ["val_size must be 1 to 1436"],
    "--data DigitsDataModule --data.std 0": ["std must be positive"],
    "--data DigitsDataModule --data.sampler os.system": ["os.system", "ALLOWED_PACKAGES"],
    "--data DigitsDataModule --count 0": ["--count is 0"],
    "--data DigitsDataModule --output picture.jpg": ["must end in .png"],
    "--data DigitsDataModule --output nowhere/picture.png": ["no folder nowhere"],
    "--data DigitsDataModule --output folder.png": ["folder.png is a folder"],
    "--data DigitsDataModule --seed_everything -1": ["seed_everything is -1"],
    "--data ImageFolderDataModule --data.root nowhere": ["cannot read the folder nowhere"],
    "--data ImageFolderDataModule": ["ImageFolderDataModule needs `root`"],
    "--config twice.yaml": ["duplicate key `data`"],
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_answered_in_one_line(words: str, refused: Callable[..., list[str]]) -> None:
    Path("folder.png").mkdir()
    Path("twice.yaml").write_text("data: DigitsDataModule\ndata: MNISTDataModule\n")
    (line,) = refused(*words.split())
    for part in MISTAKES[words]:
        assert part in line
