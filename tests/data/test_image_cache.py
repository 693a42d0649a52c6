"""The cache of a folder of images: complete or not there, in step with the files, the same after a kill."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from leyden.data.image_cache import ImageCache
from leyden.data.image_files import ImageReader
from leyden.data.image_search import find_images
from leyden.data.image_table import ImageTable
from leyden.errors import UserError

from .pictures import make_folder, picture

READER = ImageReader(3, 8)
BUILD = """
import sys
from pathlib import Path
from leyden.data import image_cache
from leyden.data.image_cache import ImageCache
from leyden.data.image_files import ImageReader
from leyden.data.image_search import find_images
image_cache.CHUNK_IMAGES = int(sys.argv[2])
root = Path(sys.argv[1])
if __name__ == "__main__":
    ImageCache(root, ImageReader(3, 8), True).table(find_images(root).files)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "cache"))


def cached(root: Path, keep_pixels: bool = True) -> tuple[ImageCache, ImageTable]:
    cache = ImageCache(root, READER, keep_pixels)
    return cache, cache.table(find_images(root).files)


def contents(cache: ImageCache) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.folder.iterdir()}


def test_the_pixels_are_those_of_the_files_in_their_order(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "root")
    cache, table = cached(root)
    pixels = cache.pixels(table)
    assert len(table.rows) == len(pixels) == 30
    for row, image in zip(table.rows, pixels, strict=True):
        expected = READER.read(root / row.name)
        np.testing.assert_array_equal(image, expected)
        assert row.sums[0] == expected.sum((1, 2), dtype=int).tolist()
        assert row.sums[1] == (expected.astype(int) ** 2).sum((1, 2)).tolist()
    assert cache.manifest.exists()
    assert len(contents(cache)) == 2


def test_a_second_start_reads_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "root")
    before = contents(cached(root)[0])
    monkeypatch.setattr(ImageReader, "read", None)
    monkeypatch.setattr(ImageReader, "decode", None)
    assert contents(cached(root)[0]) == before


def test_only_changed_and_new_files_are_read_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path / "root")
    cached(root)
    picture("red", 99).save(root / "red" / "0.png")
    picture("red", 98).save(root / "red" / "new.png")
    (root / "blue" / "3.bmp").unlink()
    capfd.readouterr()
    cache, table = cached(root)
    assert "reading 2 images" in capfd.readouterr().out
    by_name = {row.name: image.clone() for row, image in zip(table.good, cache.pixels(table), strict=True)}
    assert "blue/3.bmp" not in by_name
    os.environ["LEYDEN_CACHE"] = str(tmp_path / "other")
    fresh, fresh_table = cached(root)
    assert fresh_table.rows == table.rows
    for row, image in zip(fresh_table.good, fresh.pixels(fresh_table), strict=True):
        np.testing.assert_array_equal(by_name[row.name], image)


def test_broken_images_have_a_row_and_no_pixels_and_are_read_again(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "root", 2)
    (root / "red" / "empty.png").touch()
    good = (root / "red" / "0.png").read_bytes()
    (root / "red" / "cut.png").write_bytes(good[:60])
    cache, table = cached(root)
    reasons = {row.name: row.reason for row in table.rows if row.reason}
    assert reasons.keys() == {"red/empty.png", "red/cut.png"}
    assert reasons["red/empty.png"] == "the file is empty"
    assert len(cache.pixels(table)) == len(table.good) == 6
    (root / "red" / "cut.png").write_bytes(good)
    cache, table = cached(root)
    assert [row.name for row in table.rows if row.reason] == ["red/empty.png"]
    assert len(cache.pixels(table)) == 7


def test_other_options_have_caches_of_their_own(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "root", 2)
    readers = [ImageReader(3, 8), ImageReader(1, 8), ImageReader(3, 9), ImageReader(3, 8, "pad")]
    folders = {ImageCache(root, reader, keep).folder for reader in readers for keep in (True, False)}
    assert len(folders) == 8


def test_without_pixels_the_rows_are_the_same(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "root", 2)
    assert cached(root)[1].rows == cached(root, keep_pixels=False)[1].rows
    assert cached(root, keep_pixels=False)[1].pixels.read_bytes() == b""


def start_build(root: Path, chunk: int = 16) -> subprocess.Popen[bytes]:
    script = root.parent / "build.py"
    script.write_text(BUILD)
    return subprocess.Popen([sys.executable, str(script), str(root), str(chunk)], start_new_session=True)


def wait_for(condition: object, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None and not condition():  # type: ignore[operator]
        time.sleep(0.005)


@pytest.mark.slow
def test_a_killed_cache_goes_on_and_ends_in_the_same_bytes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path / "root", 100)
    (root / "red" / "broken.png").touch()
    folder = ImageCache(root, READER, True).folder
    part = folder / "part.jsonl"
    for lines in (17, 81, 161):
        process = start_build(root)
        wait_for(lambda least=lines: part.exists() and part.read_bytes().count(b"\n") > least, process)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (folder / "manifest.jsonl").exists()
    with part.open("ab") as file:
        file.write(b'["half a li')
    with (folder / "pixels-a.bin").open("ab") as file:
        file.write(b"more than the rows say")
    capfd.readouterr()
    assert start_build(root).wait() == 0
    read = int(capfd.readouterr().out.split("reading ")[1].split()[0])
    assert read <= 301 - 160
    resumed = contents(ImageCache(root, READER, True))
    os.environ["LEYDEN_CACHE"] = str(tmp_path / "other")
    assert start_build(root).wait() == 0
    assert contents(ImageCache(root, READER, True)) == resumed


@pytest.mark.slow
def test_the_processes_of_a_killed_build_end_with_it(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "root", 100)
    part = ImageCache(root, READER, True).folder / "part.jsonl"
    process = start_build(root)
    wait_for(lambda: part.exists() and part.read_bytes().count(b"\n") > 17, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 30
    while left := processes_of_session(process.pid):
        assert time.monotonic() < end, left
        time.sleep(0.1)


def processes_of_session(leader: int) -> list[str]:
    """The processes that a session leader has started, without zombies."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            state, _, _, session, *_ = status.read_text().rpartition(")")[2].split()
            found += [status.parent.name] if int(session) == leader and state != "Z" else []
    return found


@pytest.mark.slow
def test_two_processes_that_build_one_cache_do_not_clash(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = make_folder(tmp_path / "root", 60)
    processes = [start_build(root) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert capfd.readouterr().out.count("reading") == 1
    cache, table = cached(root)
    assert len(cache.pixels(table)) == 180


def test_a_full_disk_is_noticed_before_anything_is_read(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "root", 1)
    with pytest.raises(UserError, match=r"needs [\d.]+ GB in .*LEYDEN_CACHE"):
        ImageCache(root, ImageReader(3, 2_000_000), True).table(find_images(root).files)


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cannot write the cache"):
        cached(make_folder(tmp_path / "root", 1))


def test_spawned_processes_read_the_same_as_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "root", 10)
    rows = cached(root)[1].rows
    monkeypatch.setattr("leyden.data.image_workers.IN_PROCESS", 4)
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "other"))
    assert cached(root)[1].rows == rows
    assert not multiprocessing.active_children()
