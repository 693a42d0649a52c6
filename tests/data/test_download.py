"""Files are used only when their checksum holds, and fetched when it does not."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leyden import PROJECT
from leyden.data import download as files
from leyden.data.download import data_folder, download, read_verified
from leyden.errors import UserError

CONTENT = b"what the official file says"
MD5 = "b5978bc7daf8dba39acd57542b0a5e32"  # by md5sum


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """The folder that the web server serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.bin").write_bytes(CONTENT)
    return folder


@pytest.fixture
def server(serve: Callable[[Path], str], served: Path) -> str:
    """The address of a web server on this machine."""
    return serve(served)


@pytest.fixture
def silent_url() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/file.bin"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.bin"


def fetch_from(*urls: str) -> Callable[[Path], list[Path]]:
    return lambda folder: [download(urls, MD5, folder)]


def no_fetch(folder: Path) -> list[Path]:
    raise AssertionError("nothing needs to be fetched")


def test_an_intact_file_is_read_and_nothing_is_written(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    path.parent.chmod(0o555)
    assert read_verified(path, MD5, no_fetch) == CONTENT
    assert list(path.parent.iterdir()) == [path]
    path.parent.chmod(0o755)


def test_a_missing_file_is_fetched(server: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_verified(path, MD5, fetch_from(f"{server}file.bin")) == CONTENT
    assert path.read_bytes() == CONTENT
    assert f"{path} is missing: downloading it" in caplog.text
    assert not [p for p in path.parent.iterdir() if p.name.startswith(".")], "the temporary folder is gone"


@pytest.mark.parametrize("damaged", [CONTENT[:-1], CONTENT.replace(b"w", b"v"), b""])
def test_a_damaged_file_is_fetched_again(
    damaged: bytes, server: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(damaged)
    assert read_verified(path, MD5, fetch_from(f"{server}file.bin")) == CONTENT
    assert path.read_bytes() == CONTENT
    assert f"{path} is damaged: downloading it" in caplog.text


def test_the_next_mirror_is_tried(server: str, path: Path) -> None:
    fetch = fetch_from("http://127.0.0.1:9/file.bin", f"{server}nothing/file.bin", f"{server}file.bin")
    assert read_verified(path, MD5, fetch) == CONTENT


def test_a_wrong_download_never_takes_the_files_place(server: str, served: Path, path: Path) -> None:
    (served / "file.bin").write_bytes(b"something else")
    with pytest.raises(UserError, match="corrupted"):
        read_verified(path, MD5, fetch_from(f"{server}file.bin"))
    assert not path.exists()


def test_a_failed_download_says_in_one_line_what_to_put_where(path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_verified(path, MD5, fetch_from("http://127.0.0.1:9/file.bin"))
    message = str(error.value)
    assert message.startswith(f"{path} is missing and cannot be downloaded (http://127.0.0.1:9/file.bin: ")
    assert message.endswith(f"put the official file there, md5 {MD5}")
    assert "\n" not in message


def test_a_damaged_file_without_a_network_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"nonsense")
    with pytest.raises(UserError, match=f"{path} is damaged and cannot be downloaded"):
        read_verified(path, MD5, fetch_from("http://127.0.0.1:9/file.bin"))


def test_a_server_that_never_answers_is_given_up(silent_url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.TIMEOUT <= 10
    monkeypatch.setattr(files, "TIMEOUT", 0.3)
    start = time.monotonic()
    with pytest.raises(UserError, match="timed out"):
        read_verified(path, MD5, fetch_from(silent_url))
    assert time.monotonic() - start < 3
    assert socket.getdefaulttimeout() is None


def test_a_folder_that_cannot_be_made_is_a_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"file\.bin is missing and cannot be downloaded"):
        read_verified(tmp_path / "data" / "file.bin", MD5, no_fetch)


def test_of_several_who_want_a_file_one_fetches_it(server: str, path: Path) -> None:
    contents: list[bytes] = []
    fetched: list[Path] = []

    def slow_fetch(folder: Path) -> list[Path]:
        fetched.append(folder)
        time.sleep(0.2)
        return [download([f"{server}file.bin"], MD5, folder)]

    def read() -> None:
        contents.append(read_verified(path, MD5, slow_fetch))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert contents == [CONTENT] * 4
    assert len(fetched) == 1


def test_the_data_folder_is_the_given_one_or_the_environments_or_the_projects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert data_folder(None) == PROJECT / "data"
    monkeypatch.setenv("LEYDEN_DATA", "/somewhere")
    assert data_folder(None) == Path("/somewhere")
    assert data_folder("else/where") == Path("else/where")
