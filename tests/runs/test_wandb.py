"""A run never waits for W&B and never fails by it: each case as a process of its own."""

import os
import pty
import signal
import socket
import subprocess
import sys
import time
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


OFFLINE = """
import sys
from leyden.runs.wandb import RunWandbLogger, WandbOptions
from leyden.runs.wandb_start import finish_tracking
logger = RunWandbLogger(".", WandbOptions())
logger.log_metrics({"loss": 1.0}, 0)
finish_tracking(0)
print("launch", "wandb.sdk.launch" in sys.modules)
"""


@pytest.mark.slow
def test_an_offline_run_sends_nothing_to_the_server_and_imports_no_launch(
    tmp_path: Path, surroundings: dict[str, str], wandb_server: tuple[str, type[WandbServer]]
) -> None:
    address, server = wandb_server
    asked = []
    answer = server.do_POST

    def note(request: WandbServer) -> None:
        asked.append(request.path)
        answer(request)

    server.do_POST = note  # type: ignore[method-assign]
    environment = surroundings | {"WANDB_BASE_URL": address}
    command = [sys.executable, "-c", OFFLINE]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT, check=True
    )
    assert "W&B   offline (no key" in done.stdout
    assert "launch False" in done.stdout
    assert asked == []


FREEZE = """
import os, signal, sys
from pathlib import Path
from leyden.runs import wandb, wandb_process, wandb_start
wandb_process.CALL_TIMEOUT, wandb_start.FINISH_TIMEOUT, wandb_start.GRACE = 2.0, (2.0, 2.0), 1.0
number, rows, at_exit = int(sys.argv[1]), int(sys.argv[2]), len(sys.argv) > 3
logger = wandb.RunWandbLogger(".", wandb.WandbOptions(mode="offline"))
logger.log_metrics({"loss": 1.0}, 0)
tasks = Path("/proc/self/task").iterdir()
(core,) = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
if at_exit:
    wandb_start.finish_tracking(0)
os.kill(core, number)
for step in range(1, rows):
    logger.log_metrics({"text": "x" * 10_000}, step)
if not at_exit:
    wandb_start.finish_tracking(0)
print("core", core)
"""


def has_ended(printed: str) -> bool:
    """Whether wandb's own process has, of what `FREEZE` has printed."""
    status = Path("/proc", printed.split("core ")[1].split()[0], "stat")
    return not status.exists() or ") Z " in status.read_text()  # waits for whoever has inherited it


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "rows", "said"),
    [
        (signal.SIGSTOP, 1, ["does not answer and is killed", "the end was not logged"]),
        # until the socket is full
        (signal.SIGSTOP, 200, ["does not answer and is killed", "step ", "the end was not logged"]),
        (signal.SIGKILL, 200, ["step ", "the end was not logged"]),
    ],
)
def test_a_process_of_wandb_that_is_frozen_or_dead_holds_no_run(
    number: int, rows: int, said: list[str], tmp_path: Path, surroundings: dict[str, str]
) -> None:
    words = [sys.executable, "-c", FREEZE, str(int(number)), str(rows)]
    done = subprocess.run(
        words, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("W&B")][1:]  # the first says how to upload it
    assert len(lines) == len(said), lines
    for line, part in zip(lines, said, strict=True):
        assert part in line
    (folder,) = tmp_path.glob("wandb/offline-run-*")
    assert lines[-1].endswith(f"what is on disk: wandb sync wandb/{folder.name}")
    assert has_ended(done.stdout)


@pytest.mark.slow
def test_a_process_of_wandb_that_freezes_at_the_very_end_does_not_hold_it(
    tmp_path: Path, surroundings: dict[str, str]
) -> None:
    words = [sys.executable, "-c", FREEZE, str(int(signal.SIGSTOP)), "1", "at exit"]
    done = subprocess.run(
        words, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert has_ended(done.stdout)


@pytest.mark.slow
def test_a_server_that_falls_silent_holds_the_end_of_no_run(
    tmp_path: Path, surroundings: dict[str, str], wandb_server: tuple[str, type[WandbServer]]
) -> None:
    address, server = wandb_server
    answer = server.do_POST

    def silent(request: WandbServer) -> None:
        if server.rows:
            time.sleep(LIMIT)
        answer(request)

    server.do_POST = silent  # type: ignore[method-assign]
    limits = "import leyden.runs.wandb_start as t; t.FINISH_TIMEOUT = (3.0, 3.0)"
    command = f"import sys; {limits}; from leyden.cli.main import main; sys.exit(main(sys.argv[1:]))"
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", command, *SHORT],
        cwd=tmp_path,
        env=surroundings | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": address},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - started < LIMIT
    assert server.rows
