"""Classes and splits come from folders or from a CSV file."""

from pathlib import Path

import pytest

from leyden.data.image_labels import class_folders, read_csv, read_folders
from leyden.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_folders_are_classes(tmp_path: Path) -> None:
    root = touch(tmp_path, "cat/1.png", "dog/a/2.jpg", "dog/notes.txt", "3.png")
    images = read_folders(root)
    assert images.labels == {"cat/1.png": ("cat", None), "dog/a/2.jpg": ("dog", None)}
    assert list(images.files) == list(images.labels)
    assert images.ignored == {".txt": 1, "images outside of a class": 1}


def test_a_folder_train_makes_its_neighbours_splits(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/cat/1.png", "val/cat/2.png", "test/dog/3.png", "train/4.png")
    images = read_folders(root)
    assert images.labels == {
        "test/dog/3.png": ("dog", "test"),
        "train/cat/1.png": ("cat", "train"),
        "val/cat/2.png": ("cat", "val"),
    }
    assert images.ignored == {"images outside of a class": 1}
    touch(root, "fox/5.png")
    with pytest.raises(UserError, match=r"folders of splits .* and others \(fox\)"):
        class_folders(root)


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    root = touch(tmp_path, "test/1.png", "pass/2.png")
    assert {label for label, _ in read_folders(root).labels.values()} == {"pass", "test"}


def test_a_csv_file_names_files_labels_and_splits(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "sub/a, 1.png")
    table = tmp_path / "labels.csv"
    table.write_text(
        '\ufefffile,label,split,author\nb.png,cat,train,me\n"sub/a, 1.png",dog,test,you\nlost.png,cat,val,\n'
    )
    images = read_csv(tmp_path, table)
    assert images.labels == {"b.png": ("cat", "train"), "sub/a, 1.png": ("dog", "test"), "lost.png": ("cat", "val")}
    assert list(images.files) == ["b.png", "sub/a, 1.png"]
    assert images.broken == {"lost.png": "cannot be read: No such file or directory"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be file,label or file,label,split, but is empty"),
        ("name,class\na.png,cat\n", "but is name,class"),
        ("file,label\na.png\n", "line 2: needs a file, a label"),
        (
            "file,label,split\na.png,cat,dev\n",
            "line 2: needs a file, a label and, if there is a split, train, val or test",
        ),
        ("file,label\na.png,cat\na.png,dog\n", "line 3: a.png is named in an earlier line"),
    ],
)
def test_a_csv_file_that_is_wrong_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    table = touch(tmp_path, "a.png") / "labels.csv"
    table.write_text(text)
    with pytest.raises(UserError, match=message):
        read_csv(tmp_path, table)


def test_a_csv_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read --data.labels"):
        read_csv(tmp_path, tmp_path / "none.csv")
