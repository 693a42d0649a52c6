"""A folder of images becomes training, validation and test batches without code."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from leyden.data.image_files import ImageReader
from leyden.data.image_folder import ImageFolderDataModule
from leyden.errors import UserError

from .pictures import COLOURS, make_folder, picture


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "root", 20)


def made(root: Path, **kwargs: Any) -> ImageFolderDataModule:
    data = ImageFolderDataModule(str(root), **{"image_size": 8, **kwargs})
    data.setup("fit")
    return data


def test_each_split_has_its_share_of_each_class(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = made(root, val_share=0.2, test_share=0.1)
    assert data.class_names == sorted(COLOURS)
    for split, count in ((data.train_set, 14), (data.val_set, 4), (data.test_set, 2)):
        assert split.labels.bincount().tolist() == [count] * 3
    assert sorted([*data.train_set.files, *data.val_set.files, *data.test_set.files]) == sorted(
        str(path.relative_to(root)) for path in root.glob("*/*")
    )
    assert "3 classes, images: 42 train, 12 val (drawn), 6 test (drawn)" in capfd.readouterr().out


def test_folds_divide_the_images_that_are_not_tested(root: Path) -> None:
    plain, folds = made(root), [made(root, folds=4, fold=fold, num_workers=fold) for fold in range(4)]
    held = [file for data in folds for file in data.val_set.files]
    assert sorted(held) == sorted([*plain.train_set.files, *plain.val_set.files])
    for data in folds:
        assert data.test_set.files == plain.test_set.files
        assert not {*data.train_set.files} & {*data.val_set.files}
        assert max(data.val_set.labels.bincount()) - min(data.val_set.labels.bincount()) <= 1


@pytest.mark.parametrize("cache", [True, False])
def test_images_have_the_label_of_their_folder(root: Path, cache: bool) -> None:
    data = made(root, cache=cache)
    for split in (data.train_set, data.val_set, data.test_set):
        x, y = split.__getitems__(list(range(len(split))))
        assert x.dtype == torch.uint8
        for image, label, file in zip(x, y.tolist(), split.files, strict=True):
            assert data.class_names[label] == file.split("/")[0]
            np.testing.assert_array_equal(image, ImageReader(3, 8).read(root / file))
            assert torch.equal(split[0][0], x[0])


def test_measured_constants_normalise_the_training_images(root: Path) -> None:
    data = made(root)
    x, _ = data.train_set.__getitems__(list(range(len(data.train_set))))
    x = data.normalize(x)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-3, rtol=0)


def test_constants_may_be_those_of_imagenet_or_numbers(root: Path) -> None:
    data = made(root, mean="imagenet", std=[0.1, 0.2, 0.3])
    torch.testing.assert_close(data.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(data.std.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    assert data.resolved_options() == {"classes": sorted(COLOURS)}  # the rest is in the configuration
    grey = made(root, mean="imagenet", std="imagenet", channels=1)
    torch.testing.assert_close(grey.mean.flatten(), torch.tensor([(0.485 + 0.456 + 0.406) / 3]))


def test_what_was_found_is_enough_to_prepare_images_without_the_folder(root: Path) -> None:
    found = made(root).resolved_options()
    data = ImageFolderDataModule("no such folder", image_size=8, **found)
    assert data.class_names == sorted(COLOURS)
    assert data.num_classes == 3
    x = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(data.normalize(x), made(root).normalize(x), atol=1e-3, rtol=0)


def test_given_splits_are_taken_and_missing_ones_drawn_from_the_training_images(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", 20)
    make_folder(tmp_path / "test", 5, first=20)
    data = made(tmp_path, val_share=0.1)
    assert len(data.test_set) == 15
    assert all(file.startswith("test/") for file in data.test_set.files)
    assert all(file.startswith("train/") for file in [*data.val_set.files, *data.train_set.files])
    assert len(data.val_set) == 6


def test_a_csv_file_gives_labels_and_splits(root: Path, tmp_path: Path) -> None:
    files = sorted(str(path.relative_to(root)) for path in root.glob("*/*"))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "split"])
        writer.writerows(
            (name, "warm" if "red" in name else "cold", ("train", "val", "test")[i % 3]) for i, name in enumerate(files)
        )
    data = made(root, labels=str(tmp_path / "labels.csv"))
    assert data.class_names == ["cold", "warm"]
    assert sorted(data.val_set.files) == files[1::3]
    assert all(
        (data.class_names[int(y)] == "warm") == ("red" in file)
        for y, file in zip(data.val_set.labels, data.val_set.files, strict=True)
    )


def test_broken_images_are_all_named_before_training(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "red" / "empty.png").touch()
    (root / "blue" / "new\nline.png").write_bytes(b"no image")
    (root / "green" / "loop.png").symlink_to(root / "green" / "loop.png")
    with pytest.raises(UserError, match=r"3 of 63 images in .* are broken .* --data.skip_broken true"):
        made(root)
    err = capfd.readouterr().err
    assert "broken  red/empty.png: the file is empty\n" in err
    assert "broken  blue/new\\nline.png: not an image\n" in err
    assert "broken  green/loop.png: cannot be read" in err
    data = made(root, skip_broken=True)
    assert len(data.train_set) + len(data.val_set) + len(data.test_set) == 60
    assert "3 broken left out" in capfd.readouterr().out


def test_copies_in_two_splits_are_refused_and_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    make_folder(root / "train", 10)
    make_folder(root / "val", 3, first=10)
    make_folder(root / "test", 3, first=13)
    (root / "test" / "red" / "copy.png").write_bytes((root / "train" / "red" / "0.png").read_bytes())
    with pytest.raises(UserError, match=r"1 images in .* have copies in another split"):
        made(root)
    assert "copies  test/red/copy.png (test), train/red/0.png (train)\n" in capfd.readouterr().err
    assert len(made(root, allow_leaks=True).test_set) == 10


def test_an_image_with_two_labels_is_named(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "red" / "blue.png").write_bytes((root / "blue" / "0.png").read_bytes())
    made(root)
    assert "labels  blue/0.png, red/blue.png: one image with different labels\n" in capfd.readouterr().err


def test_a_class_without_training_images_is_refused(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "fox").mkdir()
    with pytest.raises(UserError, match=r"no training image of fox in .*: add some, or remove the class"):
        made(root)
    picture("red", 999).save(root / "fox" / "only.png")
    data = made(root)
    assert int((data.train_set.labels == data.class_names.index("fox")).sum()) == 1
    assert "no val image of fox" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("folders", "message"),
    [([], "has no class"), (["cats"], "has one class, cats"), (["train/cats"], "has one class, cats")],
)
def test_one_class_is_not_enough(tmp_path: Path, folders: list[str], message: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        ImageFolderDataModule(str(tmp_path))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read the folder .*none .*set --data.root"):
        ImageFolderDataModule(str(tmp_path / "none"))


def test_images_of_an_unknown_class_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"has images of green, but the classes are blue, red"):
        made(root, classes=["blue", "red"])


def test_a_resume_with_other_images_is_refused(root: Path) -> None:
    data = made(root)
    state = data.state_dict()
    made(root).load_state_dict(state)  # nothing has changed
    picture("red", 999).save(root / "red" / "new.png")
    changed = made(root)
    assert changed.state_dict() != state
    changed.trainer = type("Fitting", (), {"state": type("State", (), {"fn": "fit"})})()
    with pytest.raises(UserError, match=r"have changed since the checkpoint"):
        changed.load_state_dict(state)
