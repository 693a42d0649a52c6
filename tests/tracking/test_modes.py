"""A run never waits for W&B and never fails by it: each case as a process of its own."""

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .conftest import KEY, SHORT, WandbServer, history, offline_folders, records

LIMIT = 90  # seconds: what a run takes on two busy cores, and 30 more


def fit(folder: Path, environment: dict[str, str]) -> tuple[Path, str]:
    """Trains in a folder, away from any terminal; the run's directory and what was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "leyden", *SHORT],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (run,) = (folder / "runs" / "convnet_digits").iterdir()
    for name in ("config.yaml", "metrics.csv", "curves.png", "confusion.png", "mistakes.png", "checkpoints/best.ckpt"):
        assert (run / name).is_file(), name
    return run, done.stdout


def assert_offline(run: Path, printed: str, reason: str) -> None:
    (line,) = [line for line in printed.splitlines() if "W&B   offline" in line]
    assert reason in line
    assert line.endswith(f"wandb sync {run.relative_to(run.parents[2])}/wandb/offline-run-*")
    assert records(offline_folders(run)[0], "exit") == [{"exit_code": 0}] or history(run)[-1]["test/acc"] > 0


@pytest.fixture
def refusing() -> str:
    """An address at which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
def test_without_a_key_a_run_is_offline_and_says_so_in_one_line(tmp_path: Path, surroundings: dict[str, str]) -> None:
    assert_offline(*fit(tmp_path, surroundings), "no key")


@pytest.mark.slow
def test_without_a_key_nobody_is_asked_at_a_terminal(tmp_path: Path, surroundings: dict[str, str]) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "leyden", *SHORT]
    environment = surroundings | {"COLUMNS": "300", "TERM": "xterm"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    printed = b""
    with suppress(OSError):  # the end of a terminal is an error
        while part := os.read(master, 65536):
            printed += part
    assert process.wait(timeout=LIMIT) == 0
    (run,) = (tmp_path / "runs" / "convnet_digits").iterdir()
    assert_offline(run, printed.decode(), "no key")


@pytest.mark.slow
@pytest.mark.parametrize("server", ["refusing", "silent"])
def test_a_key_without_a_server_that_answers_is_an_offline_run(
    server: str, tmp_path: Path, surroundings: dict[str, str], request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue(server)
    run, printed = fit(tmp_path, surroundings | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": address})
    assert_offline(run, printed, "Failed to authenticate")
    for file in run.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("how", [{"WANDB_MODE": "disabled"}, pytest.param({}, marks=pytest.mark.slow)])
def test_a_run_without_tracking_does_not_import_wandb(
    how: dict[str, str], tmp_path: Path, surroundings: dict[str, str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'wandb':\n"
        "            raise RuntimeError('wandb was imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    words = [] if how else ["--trainer.logger", "false", "--trainer.max_epochs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "leyden", *SHORT, *words],
        cwd=tmp_path,
        env=surroundings | how | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("runs/*/*/wandb*"))


@pytest.mark.slow
def test_with_a_key_and_a_server_a_run_is_online(
    tmp_path: Path, surroundings: dict[str, str], wandb_server: tuple[str, type[WandbServer]]
) -> None:
    address, server = wandb_server
    run, printed = fit(tmp_path, surroundings | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": address})
    assert f"W&B   {address}/me/leyden/runs/{(run / 'wandb_id').read_text()}" in printed
    steps = [row["_step"] for row in server.rows]
    assert steps == sorted(set(steps)) == [1, 3, 5, 7, 9, 11, 12]
    assert {name for name in server.files if name.endswith(".png")}
    assert "diff.patch" not in server.files
    for file in run.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
