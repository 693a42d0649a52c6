"""Which images of a folder belong to which class and split, by sub-folders or by a CSV file."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from leyden.data.image_files import printable
from leyden.data.image_search import Found, find_images
from leyden.errors import UserError

SPLITS = ("train", "val", "test")


@dataclass
class LabelledImages(Found):
    """The images of a dataset before they are read.

    Args:
        labels: {name: (name of its class, name of its split or None)}.
    """

    labels: dict[str, tuple[str, str | None]] = field(default_factory=dict)


def class_folders(root: Path) -> dict[str, list[Path]]:
    """Return the folders of the classes by the split to which they belong; "" if the folder has no splits.

    A folder `train` makes the folders `train`, `val` and `test` splits, whose sub-folders are the classes.

    Raises:
        UserError: The folder cannot be read.
    """
    folders = sub_folders(root)
    names = {folder.name for folder in folders}
    if "train" not in names and not names <= {*SPLITS}:
        return {"": folders}
    if other := sorted(names - {*SPLITS}):
        raise UserError(
            f"{root} has folders of splits (train, val, test) and others ({', '.join(map(printable, other))}): move "
            "the classes into the splits"
        )
    return {folder.name: sub_folders(folder) for folder in folders}


def sub_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted by name, without hidden ones.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot read the folder {folder} ({error.strerror}): set --data.root") from error


def read_folders(root: Path) -> LabelledImages:
    """Return the images in the sub-folders of a folder.

    Raises:
        UserError: There is no sub-folder.
    """
    found = find_images(root)
    images = LabelledImages(broken=found.broken, ignored=found.ignored)
    has_splits = "" not in class_folders(root)
    for name, state in found.files.items():
        *folders, _ = name.split("/")
        if len(folders) <= has_splits:  # beside the folders of the classes
            images.ignored["images outside of a class"] += 1
            continue
        images.files[name] = state
        images.labels[name] = (folders[has_splits], folders[0] if has_splits else None)
    return images


def read_csv(root: Path, path: Path) -> LabelledImages:
    """Return the images that a CSV file names, with the columns `file`, `label` and, optionally, `split`.

    Args:
        root: The folder to which the names are relative.
        path: The CSV file.

    Raises:
        UserError: A column, a label or a split is missing, or a file is named twice.
    """
    images = LabelledImages()
    for number, row in read_rows(path):
        name, label, split = row["file"] or "", row["label"] or "", row.get("split", None)
        if not name or not label or split not in (None, *SPLITS):
            raise UserError(
                f"{path}, line {number}: needs a file, a label and, if there is a split, train, val or test"
            )
        if name in images.labels:
            raise UserError(f"{path}, line {number}: {printable(name)} is named in an earlier line")
        images.labels[name] = (label, split)
        try:
            status = (root / name).stat()
        except OSError as error:
            images.broken[name] = f"cannot be read: {error.strerror}"
        else:
            images.files[name] = (status.st_size, status.st_mtime_ns)
    images.files = dict(sorted(images.files.items()))
    return images


def read_rows(path: Path) -> list[tuple[int, dict[str, str | None]]]:
    """Return the rows of a CSV file of labels with the number of their line.

    Raises:
        UserError: It cannot be read, or has other columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, csv.Error) as error:
        raise UserError(f"cannot read --data.labels {path} ({error})") from error
    if not {"file", "label"} <= {*columns}:
        raise UserError(
            f"the first line of {path} must be file,label or file,label,split, but is {','.join(columns) or 'empty'}"
        )
    return rows
