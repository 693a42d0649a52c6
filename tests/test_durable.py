"""Files that a power cut cannot break: the order of the system calls that write them."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from leyden.durable import replacing, sync_folder
from leyden.runs.metrics_logger import rewind_metrics

from .conftest import SystemCalls


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path, system_calls: SystemCalls) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for text in ("old", "new"):
        system_calls.made.clear()
        with replacing(folder / "file") as part:
            part.write_text(text)
            assert system_calls.made == []
        assert system_calls.made == ["fsync .file.part", "replace .file.part file", "fsync folder"]
        assert [file.read_text() for file in folder.iterdir()] == [text]


def test_a_block_that_raises_leaves_the_old_file_alone(tmp_path: Path, system_calls: SystemCalls) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with suppress(ZeroDivisionError), replacing(file) as part:
        part.write_text("half of the n")
        raise ZeroDivisionError
    assert system_calls.made == []
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_rows_of_a_resumed_run_are_on_disk_before_they_replace_the_old_ones(
    tmp_path: Path, system_calls: SystemCalls
) -> None:
    file = tmp_path / "run" / "metrics.csv"
    file.parent.mkdir()
    file.write_text("epoch,step,train/loss\n0,9,0.5\n0,29,0.3\n")
    rewind_metrics(file, 20)
    assert system_calls.made == ["fsync .metrics.csv.part", "replace .metrics.csv.part metrics.csv", "fsync run"]


@pytest.mark.parametrize(("number", "is_raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_only_a_file_system_that_cannot_sync_folders_is_excused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_raised: bool
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if is_raised:
        with pytest.raises(OSError, match="Input/output error"):
            sync_folder(tmp_path)
    else:
        sync_folder(tmp_path)
