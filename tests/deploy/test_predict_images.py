"""`leyden predict --images` writes what the test would say, names every broken file and survives a kill."""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import leyden as package
from leyden import PROJECT
from leyden.cli.main import main
from leyden.data.cifar10 import CIFAR10_CLASSES
from leyden.data.digits import DigitsDataModule
from leyden.data.mnist import MNISTDataModule
from leyden.deploy.predictor import Predictor

from ..data.pictures import COLOURS, make_folder
from ..processes import Server, wait_for
from .stored import CIFAR10, CLUSTERS, CONVNET, DIGITS, FUNCTION, GREY, pixels, save_images, store

CONFIGS = PROJECT / "configs"
PREDICT = ["predict", "--ckpt_path", "model.ckpt", "--images"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(file: Path | str | None = None) -> list[dict[str, str]]:
    """The rows of a table, by default of the only one in `runs/`."""
    path = next(Path("runs").glob("*/*/predictions.csv")) if file is None else Path(file)
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        return list(csv.DictReader(lines))


def test_the_rows_are_the_predictions_in_order_and_the_lines_sum_them_up(capfd: pytest.CaptureFixture[str]) -> None:
    store()
    names = save_images(pixels(40))
    assert main([*PREDICT, "images"]) == 0
    predictions = package.load("model.ckpt").predict(names)
    found = rows()
    assert list(found[0]) == ["file", "class", "probability", "class_2", "probability_2", "class_3", "probability_3"]
    assert [row["file"] for row in found] == names
    for row, prediction in zip(found, predictions, strict=True):
        ranked = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])[:3]
        assert [(row[f"class{k}"], float(row[f"probability{k}"])) for k in ("", "_2", "_3")] == ranked
    classes = [prediction.class_name for prediction in predictions]
    counts = sorted({name: classes.count(name) for name in classes}.items(), key=lambda pair: -pair[1])
    said = capfd.readouterr()
    lines = said.out.splitlines()
    (table,) = Path("runs").glob("stored/*_predict/predictions.csv")
    assert lines == [
        "from  model.ckpt, step 7",
        f"predict  40 images, 0 broken; {', '.join(f'{name} {count}' for name, count in counts)}",
        f"file  {table}",
    ]
    assert said.err == ""


def test_the_classes_and_their_number_can_be_chosen() -> None:
    store()
    (name,) = save_images(pixels(1))
    assert main([*PREDICT, name, "--top_k", "1", "--all", "--output", "table.csv"]) == 0
    (row,) = rows("table.csv")
    assert list(row) == ["file", "class", "probability", *(f"p({name})" for name in CIFAR10_CLASSES)]
    prediction = package.load("model.ckpt").predict(name)
    assert [float(row[f"p({name})"]) for name in CIFAR10_CLASSES] == list(prediction.probabilities.values())
    assert not Path("runs").exists()


def test_files_folders_and_a_list_on_stdin_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    store()
    save_images(pixels(2), "a")
    save_images(pixels(1), "a/b")
    (listed,) = save_images(pixels(1), "c")
    Path("a/notes.txt").write_text("no image")
    Path("photo").write_bytes(Path(listed).read_bytes())  # without a suffix, but named
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{listed}\n\n{listed}".encode())))
    assert main([*PREDICT, "photo", "a", "--images", "-"]) == 0
    assert [row["file"] for row in rows()] == [
        "photo", "a/00000.png", "a/00001.png", "a/b/00000.png", listed, listed
    ]  # fmt: skip


def test_broken_images_are_named_and_counted_and_the_others_have_their_rows(capfd: pytest.CaptureFixture[str]) -> None:
    store()
    names = save_images(pixels(5))
    content = Path(names[0]).read_bytes()
    broken = {
        "empty.png": b"",
        "not an image\n.png": b"text",
        "truncated.png": content[: len(content) // 2],
        "header.png": content[:20],
    }
    for name, damaged in broken.items():
        Path("images", name).write_bytes(damaged)
    Path("images/loop").symlink_to(".")
    assert main([*PREDICT, "images", "missing.png"]) == 2  # a name on the command line is a mistake
    assert main([*PREDICT, "images", "--output", "table.csv"]) == 1
    said = capfd.readouterr()
    assert [row["file"] for row in rows("table.csv")] == names
    for name in (*broken, "loop"):
        assert f"broken  images/{name.encode('unicode_escape').decode()}: " in said.err
    assert "error: 5 of 10 images are broken, as listed; --skip_broken accepts that" in said.err
    assert len(said.err.splitlines()) == 2 + 5
    assert "predict  10 images, 5 broken; " in said.out
    assert main([*PREDICT, "images", "--output", "table.csv", "--skip_broken"]) == 0
    assert [row["file"] for row in rows("table.csv")] == names


def test_where_every_image_is_broken_the_table_has_its_header_only(capfd: pytest.CaptureFixture[str]) -> None:
    store()
    Path("empty.png").touch()
    assert main([*PREDICT, "empty.png", "--output", "table.csv"]) == 1
    assert "predict  1 images, 1 broken\n" in capfd.readouterr().out
    assert Path("table.csv").read_text().splitlines() == [
        "file,class,probability,class_2,probability_2,class_3,probability_3"
    ]


def test_any_name_reads_back_from_the_table() -> None:
    store()
    (plain,) = save_images(pixels(1))
    names = [
        "a,b.png",
        'quoted "c".png',
        "two\nlines.png",
        "a\rreturn.png",
        "größe →.png",
        os.fsdecode(b"\xff\xfe.png"),
    ]
    Path("odd").mkdir()
    for name in names:
        os.link(plain, Path("odd", name))
    assert main([*PREDICT, "odd"]) == 0
    assert sorted(row["file"] for row in rows()) == sorted(f"odd/{name}" for name in names)
    assert all(None not in row.values() for row in rows())


def test_dark_digits_on_light_paper_are_predicted_as_light_ones_on_dark() -> None:
    store(CONVNET, GREY, DIGITS)
    images = pixels(3, (1, 28, 28))
    save_images(images, "light")
    save_images(255 - images, "dark")
    assert main([*PREDICT, "light", "--all", "--output", "light.csv"]) == 0
    assert main([*PREDICT, "dark", "--all", "--output", "dark.csv", "--invert"]) == 0
    light, dark = ([list(row.values())[1:] for row in rows(file)] for file in ("light.csv", "dark.csv"))
    assert light == dark


def test_black_is_added_after_inversion() -> None:
    data: dict[str, Any] = {"class_path": "leyden.data.mnist.MNISTDataModule", "init_args": {"mean": 0.0, "std": 1.0}}
    file, _ = store(CONVNET, GREY, data)
    reader = package.load(file).reader
    assert reader is not None
    padded = replace(reader, resize="pad", invert=True).convert(Image.new("L", (28, 14), 255))
    assert not padded.any()


MISTAKES = {
    "needs --ckpt_path": ["predict", "--images", "images"],
    "there is no file or folder nowhere": [*PREDICT, "nowhere"],
    "no image in empty": [*PREDICT, "empty"],
    "expected at least one argument": PREDICT,
    "leyden predict --images has no option `--trainer.accelerator`; did you mean `accelerator`": [
        *PREDICT,
        "images",
        "--trainer.accelerator",
        "cpu",
    ],
    "takes no --config": [*PREDICT, "images", "--config", str(CONFIGS / "convnet_digits.yaml")],
    "--top_k is 0": [*PREDICT, "images", "--top_k", "0"],
    "--top_k is 11, but there are 10 classes": [*PREDICT, "images", "--top_k", "11"],
    "--batch_size is -1": [*PREDICT, "images", "--batch_size", "-1"],
    "invalid int value: 'many'": [*PREDICT, "images", "--top_k", "many"],
    "cannot write nowhere/table.csv": [*PREDICT, "images", "--output", "nowhere/table.csv"],
    "no checkpoint at other.ckpt": ["predict", "--ckpt_path", "other.ckpt", "--images", "images"],
    "is no folder in runs/": [*PREDICT, "images", "--name", "../elsewhere"],
    "invalid choice: 'tpu'": [*PREDICT, "images", "--accelerator", "tpu"],
}


@pytest.mark.parametrize("reason", MISTAKES)
def test_mistakes_are_refused_in_one_line_and_write_nothing(reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    store()
    save_images(pixels(1))
    Path("empty").mkdir()
    assert main(MISTAKES[reason]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert reason in line
    assert not Path("runs").exists()


def test_a_checkpoint_cannot_choose_a_directory_outside_of_the_runs(capfd: pytest.CaptureFixture[str]) -> None:
    config = {"name": "../elsewhere", "data": CIFAR10, "trainer": {"precision": "32-true"}}
    store(config=config)
    save_images(pixels(1))
    assert main([*PREDICT, "images"]) == 2
    assert "is no folder in runs/" in capfd.readouterr().err
    assert not Path("../elsewhere").exists()


@pytest.mark.parametrize(
    ("reason", "class_path", "arguments", "data"),
    [
        ("LinearRegression takes (10,) numbers", "linear_regression.LinearRegression", {"out_features": 1}, FUNCTION),
        ("MLP takes (10,) numbers", "mlp.MLP", {"num_classes": 10}, CLUSTERS),
        ("ImageGPT predicts neither classes", "image_gpt.ImageGPT", {"num_classes": 10, "pool": 4}, DIGITS),
    ],
)
def test_models_of_other_inputs_are_refused_in_one_line(
    reason: str, class_path: str, arguments: dict[str, Any], data: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    shape = [1, 28, 28] if "gpt" in class_path else [10]
    store(f"leyden.models.{class_path}", {"input_shape": shape, **arguments}, data)
    save_images(pixels(1))
    assert main([*PREDICT, "images"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert reason in line
    assert not Path("runs").exists()


def agree(run: Path, images: np.ndarray, labels: list[int], scale: float) -> None:
    """Compares the predictions for PNG files with `leyden test` and `leyden predict` of the same checkpoint."""
    save_images((images * scale).round().astype(np.uint8))
    assert main(["predict", "--ckpt_path", str(run), "--images", "images", "--all", "--output", "files.csv"]) == 0
    assert main(["predict", "--ckpt_path", str(run), "--all"]) == 0
    found, expected = rows("files.csv"), rows()
    columns = ["class", "probability", *(f"p({i})" for i in range(10))]
    assert list(expected[0]) == ["index", "class", "truth", *columns[1:]]
    assert [[row[name] for name in columns] for row in found] == [[row[name] for name in columns] for row in expected]
    assert [int(row["truth"]) for row in expected] == labels
    assert main(["test", "--ckpt_path", str(run)]) == 0
    (table,) = run.parent.glob("*_test/metrics.csv")
    with table.open() as lines:
        (accuracy,) = [float(row["test/acc"]) for row in csv.DictReader(lines) if row["test/acc"]]
    correct = sum(int(row["class"]) == label for row, label in zip(found, labels, strict=True))
    assert correct == round(accuracy * len(labels))
    assert accuracy == pytest.approx(correct / len(labels), abs=1e-7)


def test_predictions_for_the_files_of_a_dataset_are_those_of_the_test_to_the_bit() -> None:
    config = str(CONFIGS / "convnet_digits.yaml")
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "20", "--test_after_fit", "false"]
    assert main(["fit", "--config", config, *short]) == 0
    (run,) = Path("runs/convnet_digits").iterdir()
    data = DigitsDataModule()
    data.setup()
    agree(run, data.test_set.x.numpy(), data.test_set.y.tolist(), 255 / 16)


def test_predictions_for_the_files_of_a_folder_are_those_of_its_test_split_to_the_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LEYDEN_CACHE", str(Path("cache").absolute()))
    make_folder(Path("pets"))  # of several formats and sizes
    data = ["--data", "ImageFolderDataModule", "--data.root", "pets", "--data.image_size", "16"]
    short = ["--trainer.max_epochs", "1", "--test_after_fit", "false", "--name", "pets"]
    assert main(["fit", "--model", "ConvNet", *data, *short]) == 0
    assert main(["predict", "--ckpt_path", "best", "--all"]) == 0
    expected = rows()
    files = [f"pets/{row['file']}" for row in expected]
    assert sorted({row["truth"] for row in expected}) == sorted(COLOURS)
    shutil.rmtree("cache")
    assert main(["predict", "--ckpt_path", "best", "--images", *files, "--all", "--output", "files.csv"]) == 0
    found = rows("files.csv")
    columns = ["class", "probability", *(f"p({name})" for name in sorted(COLOURS))]
    assert [row["file"] for row in found] == files
    assert [[row[name] for name in columns] for row in found] == [[row[name] for name in columns] for row in expected]
    assert not Path("cache").exists()


@pytest.mark.slow
@pytest.mark.real_data
def test_predictions_for_10_000_files_of_mnist_are_those_of_the_test_to_the_bit(
    real_data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEYDEN_DATA", real_data)
    config = str(CONFIGS / "mlp_mnist.yaml")
    assert main(["fit", "--config", config, "--trainer.max_epochs", "1", "--test_after_fit", "false"]) == 0
    (run,) = Path("runs/mlp_mnist").iterdir()
    data = MNISTDataModule()
    data.setup()
    assert len(data.test_set) == 10_000
    agree(run, data.test_set.x.numpy(), data.test_set.y.tolist(), 1)


def links(folder: str, count: int) -> None:
    """Many names of one small image."""
    Path(folder).mkdir()
    (name,) = save_images(pixels(1, (1, 28, 28)), "one")
    for i in range(count):
        os.link(name, f"{folder}/{i:05}.png")


@pytest.mark.slow
def test_a_killed_command_leaves_complete_rows(leyden: Server) -> None:
    store(CONVNET, GREY, DIGITS)
    links("many", 30_000)
    process = leyden.start(*PREDICT, "many")
    table = wait_for("runs/stored/*/predictions.csv")
    while table.stat().st_size < 100_000:
        assert process.text() == "from  model.ckpt, step 7\n"
    process.kill(signal.SIGKILL)
    assert process.wait() == -9
    text = table.read_text()
    assert text.endswith("\n")
    found = rows(table)
    assert 500 < len(found) < 30_000
    assert [row["file"] for row in found] == [f"many/{i:05}.png" for i in range(len(found))]
    assert all(None not in row.values() and None not in row for row in found)


def peak_memory(*args: str) -> int:
    """The largest resident memory of a `leyden` process, in bytes."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "leyden", *args], stdout=subprocess.DEVNULL, env=env)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss * (1024 if sys.platform == "linux" else 1)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files() -> None:
    store(CONVNET, GREY, DIGITS)
    links("many", 50_000)
    links("few", 0)
    for i in range(1000):
        os.link("one/00000.png", f"few/{i:05}.png")
    few, many = (peak_memory(*PREDICT, folder, "--output", f"{folder}.csv") for folder in ("few", "many"))
    assert len(rows("many.csv")) == 50_000
    assert many - few < 30e6  # the names take a part of it


def test_a_table_is_written_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    store()
    names = save_images(pixels(40))
    run: Callable[..., Any] = Predictor.run
    seen = []

    def counted(self: Predictor, x: torch.Tensor) -> Any:
        seen.append((len(x), len(rows("table.csv"))))
        return run(self, x)

    monkeypatch.setattr(Predictor, "run", counted)
    assert main([*PREDICT, *names, "--batch_size", "15", "--output", "table.csv"]) == 0
    assert seen == [(15, 0), (15, 15), (10, 30)]


def test_help_names_every_option(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*PREDICT, "--help"]) == 0
    text = capfd.readouterr().out
    options = ("images", "invert", "top_k", "all", "output", "batch_size", "skip_broken", "accelerator", "name")
    assert all(re.search(rf"^  --{name}\b", text, re.MULTILINE) for name in options)
