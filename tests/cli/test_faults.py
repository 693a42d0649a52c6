"""Workers that hang or die, and a machine that has no room left, on disk or in memory."""

import errno
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from leyden.checkpoints.last_checkpoint import LastCheckpoint
from leyden.cli.faults import known_fault
from leyden.cli.main import main
from leyden.errors import RunError
from leyden.runs.metrics import read_metrics, read_rows
from leyden.runs.metrics_logger import MetricsLogger, rewind_metrics

from ..checkpoints.test_kills import FIT
from ..processes import Server, is_running, result, wait_for


def test_a_worker_that_hangs_ends_the_run_and_is_ended(leyden: Server) -> None:
    process = leyden.start(*FIT, "--data.num_workers=2", "--data.timeout=3", hang=1)
    assert process.wait() == 1
    text = process.text()
    assert "error: DataLoader timed out after 3.0 seconds: --data.num_workers 0" in text
    assert "Traceback" not in text
    assert not [folder for folder in Path("/proc").glob("[0-9]*") if process.output in _open_files(folder)]


def _open_files(process: Path) -> list[Path]:
    try:
        return [file.readlink() for file in (process / "fd").iterdir()]
    except OSError:
        return []


def test_a_worker_that_dies_while_the_network_works_ends_the_run_in_one_line(leyden: Server) -> None:
    code, text = leyden.run(*FIT, "--data.num_workers=2", at=("on_before_backward", 5, signal.SIGKILL, "worker"))
    assert code == 1
    assert "error: DataLoader worker (pid" in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_with_the_work_saved(leyden: Server) -> None:
    process = leyden.start(*FIT, "--data.num_workers=1", "--trainer.max_epochs=30")
    wait_for("runs/*/*/checkpoints/last.ckpt")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    assert process.wait() == 1
    assert "error: DataLoader worker (pid" in process.text()
    assert not any(is_running(int(child)) for child in children)
    assert leyden.run("fit", "--ckpt_path", "last", "--trainer.max_epochs=30", "--data.num_workers=0")[0] == 0


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As a disk that is full behaves, for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_rows_that_cannot_be_written_are_in_the_checkpoint_and_a_resumed_run_writes_them(leyden: Server) -> None:
    long = [*FIT, "--trainer.max_epochs=12"]
    process = leyden.start(*long, "--name", "full")
    file = wait_for("runs/full/*/metrics.csv")
    while len(read_metrics(file).get("val/loss", ((), ()))[0]) < 2:
        time.sleep(0.01)
    kept = file.with_name("kept.csv")
    os.link(file, kept)
    Path("full").symlink_to("/dev/full")
    Path("full").replace(file)
    assert process.wait() == 1
    (line,) = [line for line in process.text().splitlines() if line.startswith("error: ")]
    run = file.absolute().parent
    last = run / "checkpoints" / "last.ckpt"
    assert line == (
        f"error: cannot write {run / 'metrics.csv'} (No space left on device): its last rows are in {last}, "
        f"go on with: leyden fit --ckpt_path {run}"
    )
    assert torch.load(last, weights_only=True)["unwritten_metrics"]

    kept.replace(file)
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "full")
    assert code == 0, text
    assert "unwritten_metrics" not in torch.load(last, weights_only=True)
    assert leyden.run(*long, "--name", "whole")[0] == 0
    assert result("full") == result("whole")


@pytest.mark.slow
def test_a_run_whose_directory_is_taken_away_ends_with_the_work_saved(leyden: Server) -> None:
    process = leyden.start(*FIT, "--trainer.max_epochs=12")
    file = wait_for("runs/*/*/metrics.csv")
    while max(read_rows(file), default=0) < 50:  # in the second epoch, where nothing is saved
        time.sleep(0.01)
    run = file.parent
    run.rename("elsewhere")
    assert process.wait() == 1
    lines = [line for line in process.text().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, process.text()
    assert f"cannot write {run.absolute() / 'metrics.csv'} (No such file or directory)" in lines[0]
    code, text = leyden.run("fit", "--ckpt_path", str(run), "--trainer.max_epochs=12")
    assert code == 0, text


def test_new_columns_and_rows_on_a_full_disk_leave_the_old_rows_whole(tmp_path: Path) -> None:
    logger = MetricsLogger(str(tmp_path))
    logger.log_metrics({"train/loss": 0.5}, step=1)
    logger.save()
    file = tmp_path / "metrics.csv"
    before = file.read_text()
    with no_file_larger_than(file.stat().st_size + 3):
        for step in (2, 3):
            logger.log_metrics({"train/loss": 0.25}, step=step)
            logger.save()
        logger.log_metrics({"val/loss": 1.5}, step=3)
        logger.save()
        assert [path.name for path in tmp_path.iterdir()] == [file.name]
        assert file.read_text() == before
        with pytest.raises(RunError, match="File too large"):
            logger.finalize("success")
        logger.finalize("failed")  # the run has ended by something else, which is told
    logger.save()
    logger.finalize("success")
    assert file.read_text().splitlines() == ["step,train/loss,val/loss", "1,0.5,", "2,0.25,", "3,0.25,", "3,,1.5"]


def test_a_resume_on_a_full_disk_leaves_the_rows_whole(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,train/loss\n0,9,0.5\n0,19,0.4\n0,29,0.3\n")
    before = file.read_text()
    with no_file_larger_than(30), pytest.raises(OSError, match="File too large") as caught:
        rewind_metrics(file, 20)
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]
    assert (
        str(known_fault(caught.value)) == f"cannot write {file} (File too large): free space, or choose another folder"
    )


def test_unwritten_rows_are_added_once(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,train/loss\n0,9,0.5\n0,29,0.3\n")
    for _ in range(2):
        rewind_metrics(file, 20, [{"epoch": 0, "step": 19, "val/loss": 0.1}])
        assert file.read_text() == "epoch,step,train/loss,val/loss\n0,9,0.5,\n0,19,,0.1\n"


def test_a_file_that_a_full_disk_refuses_ends_the_run_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*FIT, "--trainer.default_root_dir", str(tmp_path), "--trainer.enable_checkpointing", "false"]
    with no_file_larger_than(1000):  # config.yaml is larger
        assert main(words) == 1
    assert "error: cannot write a file (File too large): free space" in capsys.readouterr().err


@pytest.mark.parametrize("allocate", [lambda: torch.empty(2**50), lambda: np.empty(2**50)])
def test_no_memory_is_one_line_that_says_what_to_lower(
    allocate: Callable[[], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(LastCheckpoint, "on_train_epoch_end", lambda *_: allocate())
    words = [*FIT, "--trainer.default_root_dir", str(tmp_path), "--trainer.limit_train_batches", "2"]
    assert main(words) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    (run,) = (tmp_path / "convnet_digits").iterdir()
    assert re.fullmatch(
        r"error: out of memory \(\w+ to allocate [\d.]+ \w+\): lower --data.batch_size and raise "
        r"--trainer.accumulate_grad_batches as much, or set --trainer.precision bf16-mixed; "
        rf"go on with: leyden fit --ckpt_path {run}",
        line,
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", ["256k", "16k"])  # of the batches, or the locks of the queues, there is no room
def test_workers_without_shared_memory_end_the_run_in_one_line(tmp_path: Path, size: str) -> None:
    words = shlex.join([*FIT, "--data.num_workers=2", "--data.pin_memory=true"])  # which sends tensors by /dev/shm
    command = f"mount -t tmpfs -o size={size} none /dev/shm && exec {sys.executable} -m leyden {words}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("only root may mount a file system")
    assert done.returncode == 1, done.stderr
    assert re.search(
        r"^error: no shared memory is left for workers \(.*No space left.*--data.num_workers 0", done.stderr, re.M
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a.png"),
            "cannot write a.png (No space left on device): free",
        ),
        (OSError(errno.EROFS, "Read-only file system", "a.csv"), "cannot open or write a.csv (Read-only file system)"),
        (PermissionError(errno.EACCES, "Permission denied", "a.csv"), "cannot open or write a.csv (Permission denied)"),
        (FileNotFoundError(errno.ENOENT, "No such file", "gone/a.csv"), "cannot open or write gone/a.csv: its folder"),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed"),
            "cannot write a file (is",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
            "out of memory (Tried to",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory: lower --data.batch_size"),
        (
            torch.distributed.DistBackendError("NCCL error: remote process exited"),
            "lost another process of this run (NCCL",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. "),
            "DataLoader worker (pid 7) is killed",
        ),
    ],
)
def test_a_fault_of_the_machine_is_one_line(error: Exception, line: str) -> None:
    assert str(known_fault(error)).startswith(line)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), FileNotFoundError(errno.ENOENT, "No", "a.csv")])
def test_a_mistake_in_the_code_keeps_its_traceback(error: Exception) -> None:
    assert known_fault(error) is None
