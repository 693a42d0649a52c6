"""Arrays that the processes of a machine share."""

import os
from pathlib import Path

import pytest

from leyden.data.shared_arrays import SHARED_ARRAYS

from .arrays import Hundred, OnDevice, numbers, ready


def test_processes_of_one_machine_share_the_file_of_the_one_that_started_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv(SHARED_ARRAYS, "")  # so that what is set below is forgotten after the test
    first = Hundred(val_size=30)
    first.trainer = OnDevice("cpu", num_devices=2)  # type: ignore[assignment]
    first.setup()
    starter, _, file = os.environ[SHARED_ARRAYS].partition(":")
    assert (starter, first.reads) == (str(os.getpid()), 1)

    monkeypatch.setattr(os, "getppid", os.getpid)  # as in a process that it has started
    second = Hundred(val_size=30)
    second.setup()
    assert second.reads == 0
    assert numbers(second.train_dataloader()) == numbers(ready(Hundred(val_size=30)).train_dataloader())
    maps = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else file
    assert file in maps
    Path(file).unlink()


def test_a_process_alone_or_started_by_others_writes_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHARED_ARRAYS, "")
    for num_devices, local_rank in ((1, None), (2, "0")):
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        if local_rank:
            monkeypatch.setenv("LOCAL_RANK", local_rank)
        dm = Hundred(val_size=30)
        dm.trainer = OnDevice("cpu", num_devices)  # type: ignore[assignment]
        dm.setup()
        assert (dm.reads, os.environ[SHARED_ARRAYS]) == (1, "")
