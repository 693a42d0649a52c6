"""Arrays that all processes of a machine share, made once for each state of their source files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from leyden.data.cache import building, cache_folder, cached_arrays, map_array

Arrays = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


class Loader:
    """Loads arrays that differ from call to call."""

    calls = 0

    def __call__(self) -> Arrays:
        self.calls += 1
        x = torch.full((6, 1, 2, 2), self.calls, dtype=torch.uint8)
        return (x[:4], torch.arange(4)), (x[4:], torch.arange(2))


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "source").write_bytes(b"1")
    return tmp_path / "source"


def test_arrays_are_loaded_once_for_each_state_of_their_files(source: Path) -> None:
    load = Loader()
    for _ in range(2):
        (x, y), (x_test, y_test) = cached_arrays("some", [source], load)
        assert x.dtype == torch.uint8
        assert (x.shape, x_test.shape) == ((4, 1, 2, 2), (2, 1, 2, 2))
        assert x.unique().tolist() == x_test.unique().tolist() == [1]
        assert y.tolist() == [0, 1, 2, 3]
        assert y_test.dtype == torch.int64
    assert load.calls == 1
    source.write_bytes(b"changed")
    (x, _), _ = cached_arrays("some", [source], load)
    assert x.unique().tolist() == [2]
    os.utime(source, ns=(0, 0))
    (x, _), _ = cached_arrays("some", [source], load)
    assert x.unique().tolist() == [3]
    assert len(list(cache_folder().glob("some-*/"))) == 1  # of earlier states nothing is left


def test_the_pages_of_a_cached_array_belong_to_its_file(source: Path) -> None:
    (x, _), _ = cached_arrays("some", [source], Loader())
    assert str(cache_folder()) in Path("/proc/self/maps").read_text()
    assert x.sum() == 16


def test_what_a_process_writes_into_a_cached_array_is_its_own(source: Path) -> None:
    (x, y), _ = cached_arrays("some", [source], Loader())
    x[0] = 7
    y[0] = 9
    (x, y), _ = cached_arrays("some", [source], Loader())
    assert x.unique().tolist() == [1]
    assert y.tolist() == [0, 1, 2, 3]


def test_files_that_are_missing_are_left_to_the_loader(source: Path) -> None:
    load = Loader()
    source.unlink()
    cached_arrays("some", [source], load)
    assert load.calls == 1
    assert not cache_folder().exists()


def test_arrays_are_loaded_every_time_where_the_cache_cannot_be_written(
    source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LEYDEN_CACHE", str(source / "no folder"))
    load = Loader()
    (x, _), _ = cached_arrays("some", [source], load)
    assert x.unique().tolist() == [1]
    assert "set LEYDEN_CACHE to a folder that can be written" in caplog.text


def test_an_empty_array_needs_no_file(tmp_path: Path) -> None:
    assert map_array(tmp_path / "none", torch.empty(0).numpy().dtype.type, (0, 3)).shape == (0, 3)


def test_a_process_that_waits_for_another_one_says_so(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = cache_folder() / "some"
    code = (
        "import sys, pathlib; from leyden.data.cache import building\n"
        "with building(pathlib.Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "in\n"
        release = Release(other)
        caplog.handler.addFilter(release)
        try:
            with building(folder):
                assert "another process is writing" in caplog.text
                assert release.released
        finally:
            caplog.handler.removeFilter(release)  # the handler is that of all tests


class Release:
    """Ends the other process as soon as this one has said that it waits."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.released = False

    def filter(self, record: object) -> bool:
        assert self.process.poll() is None
        self.released = True
        assert self.process.stdin is not None
        self.process.stdin.close()
        return True
