"""The confusion matrix of the page."""

import csv
from pathlib import Path

import pytest
import torch
from sklearn.metrics import confusion_matrix, recall_score

from leyden.callbacks.confusion_matrix import write_confusion
from leyden.errors import UserError
from leyden.runs.report.confusion import MAX_CLASSES, read_confusion


def test_it_reads_what_the_callback_writes(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    truth, guess = torch.randint(3, (2, 100), generator=generator)
    counts = confusion_matrix(truth, guess)
    write_confusion(tmp_path, torch.from_numpy(counts), ["a", 'b, "c"', "d"])
    found = read_confusion(tmp_path / "confusion.csv")
    assert found is not None
    assert found.names == ["a", 'b, "c"', "d"]
    assert found.counts == counts.tolist()
    assert [row[i] for i, row in enumerate(found.shares)] == pytest.approx(recall_score(truth, guess, average=None))
    worst = max((counts[i, j], i, j) for i in range(3) for j in range(3) if i != j)[0]
    assert found.frequent[0][0] == worst


def test_a_class_without_samples_has_no_share(tmp_path: Path) -> None:
    (tmp_path / "confusion.csv").write_text("true,a,b\na,0,0\nb,0,2\n")
    found = read_confusion(tmp_path / "confusion.csv")
    assert found is not None
    assert found.shares == [[0, 0], [0, 1]]
    assert found.frequent == []


def test_many_classes_are_left_to_the_picture(tmp_path: Path) -> None:
    for count in (MAX_CLASSES, MAX_CLASSES + 1):
        with (tmp_path / "confusion.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["true", *range(count)], *([i, *[0] * count] for i in range(count))])
        assert (read_confusion(tmp_path / "confusion.csv") is None) == (count > MAX_CLASSES)
    assert read_confusion(tmp_path / "none.csv") is None


@pytest.mark.parametrize("content", ["", "true,a\na,x\n", "true,a,b\na,1,2\n", "true,a\na,1,2\n", "true,a\na,1.5\n"])
def test_what_is_no_matrix_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "confusion.csv").write_text(content)
    with pytest.raises(UserError, match="is no confusion matrix"):
        read_confusion(tmp_path / "confusion.csv")
