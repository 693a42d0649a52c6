"""Checkpoint files that are damaged, foreign, in another place or of another configuration; a disk that is full."""

import random
import re
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from leyden.checkpoints.io import SafeCheckpointIO, read_checkpoint
from leyden.checkpoints.resume import differences
from leyden.errors import UserError
from leyden.runs.metrics_logger import rewind_metrics

from ..processes import Server, is_running, result, run_of, wait_for
from .test_kills import FIT

LAST = "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def finished(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert server.run(*FIT, "--trainer.max_epochs=1", "--name", "run")[0] == 0
        return run_of("run").absolute()


@pytest.fixture
def run(finished: Path, leyden: Server) -> Path:
    """A copy of it in the current directory."""
    return Path(shutil.copytree(finished, Path("runs", "run", finished.name)))


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def with_a_flipped_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def foreign(file: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, file)


@pytest.mark.parametrize("damage", [truncated, with_a_flipped_bit, empty, foreign])
def test_a_damaged_file_is_refused_by_name(leyden: Server, run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / LAST)
    for command in ("fit", "test"):
        code, text = leyden.run(command, "--ckpt_path", str(run / LAST))
        assert code == 2
        assert re.search(rf"^error: {run / LAST} is ", text, re.M), text


@pytest.mark.parametrize("damage", [truncated, with_a_flipped_bit, empty, foreign])
def test_last_passes_over_a_damaged_file_and_says_so(leyden: Server, damage: Callable[[Path], None]) -> None:
    assert leyden.run(*FIT, "--name", "whole")[0] == 0
    shutil.copytree("runs/whole", "runs/damaged")
    run = run_of("damaged")
    damage(run / LAST)
    code, text = leyden.run("fit", "--ckpt_path", str(run), "--name", "damaged", "--trainer.max_epochs", "3")
    # the copy's configuration has the name of the first one
    assert "passed over" in text
    assert str(run / LAST) in text
    assert f"from  {run}/checkpoints/previous.ckpt, step 78" in text
    assert code == 0, text


def test_where_no_file_is_whole_nothing_is_trained(leyden: Server, run: Path) -> None:
    for file in run.glob("checkpoints/*.ckpt"):
        truncated(file)
    code, text = leyden.run("fit", "--ckpt_path", "last")
    assert code == 2
    assert "error: no checkpoint to go on from in runs/run/" in text


def test_whatever_bit_is_flipped_the_file_is_refused_or_reads_as_before(finished: Path, tmp_path: Path) -> None:
    content = (finished / LAST).read_bytes()
    weights = read_checkpoint(finished / LAST)["state_dict"]
    draw, refused = random.Random(0), 0
    for _ in range(100):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file = tmp_path / "damaged.ckpt"
        file.write_bytes(damaged)
        try:
            read = read_checkpoint(file)["state_dict"]
        except UserError:
            refused += 1
        else:  # padding, or a field that only other programs read
            assert all(torch.equal(read[name], weights[name]) for name in weights)
    assert refused > 50


def test_a_file_keeps_its_old_content_until_the_new_one_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "some.ckpt"
    old = {"state_dict": {"weight": torch.zeros(3)}, "global_step": 1}
    SafeCheckpointIO().save_checkpoint(old, file)
    with pytest.raises(TypeError, match="pickle"):  # the same words in every version of Python; a lambda's change
        SafeCheckpointIO().save_checkpoint(old | {"unpicklable": threading.Lock()}, file)
    assert torch.equal(read_checkpoint(file)["state_dict"]["weight"], torch.zeros(3))


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_new_file_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:  # as on macOS
        monkeypatch.setattr("leyden.checkpoints.io.RENAME", None)
    file = tmp_path / "some.ckpt"
    for step in (1, 2, 3):
        state = {"weight": torch.full((3,), float(step))}
        SafeCheckpointIO().save_checkpoint({"state_dict": state, "global_step": step}, file)
        assert read_checkpoint(file)["global_step"] == step
        assert list(tmp_path.iterdir()) == [file]


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_costs_no_checkpoint(leyden: Server) -> None:
    process = leyden.start(*FIT, "--trainer.max_epochs=30", "--checkpoint.every_n_train_steps=1")
    run = wait_for("runs/*/*/checkpoints/previous.ckpt").parents[1]
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (60_000, 60_000))  # a checkpoint takes 190 000 bytes
    assert process.wait() == 1
    assert re.search(
        r"^error: cannot write \S+\.ckpt \(is the disk full\?\); the checkpoint before it is whole",
        process.text(),
        re.M,
    ), process.text()
    kept = [file for file in run.glob("checkpoints/*") if file.suffix == ".ckpt"]
    assert kept == list(run.glob("checkpoints/*"))  # nothing half-written
    for file in kept:
        read_checkpoint(file)
    code, text = leyden.run(
        "fit", "--ckpt_path", "last", "--trainer.max_epochs=30", "--checkpoint.every_n_train_steps=500"
    )
    assert code == 0, text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 30 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "none", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_run_with_its_checkpoint_whole(leyden: Server, small_disk: Path) -> None:
    root = ["--trainer.default_root_dir", str(small_disk)]
    process = leyden.start(*FIT, *root, "--trainer.max_epochs=50", "--checkpoint.every_n_train_steps=1")
    wait_for("disk/*/*/checkpoints/previous.ckpt")
    filler = small_disk / "filler"
    with filler.open("ab", buffering=0) as file:
        while is_running(process.pid):
            try:
                file.write(bytes(4096))
            except OSError:
                continue
    assert process.wait() == 1
    assert re.search(r"No space left on device|is the disk full", process.text()), process.text()
    filler.unlink()
    code, text = leyden.run("fit", "--ckpt_path", "last", *root, "--trainer.max_epochs=50")
    assert code == 0, text


def test_a_finished_run_says_that_it_is(leyden: Server, run: Path) -> None:
    code, text = leyden.run("fit", "--ckpt_path", "last")
    assert code == 2
    assert "error: this run is finished, at epoch 1 and step 39" in text


def test_what_differs_from_the_checkpoint_is_printed_and_a_new_rate_is_used(leyden: Server, run: Path) -> None:
    flags = ["--trainer.max_epochs=2", "--model.optimizer.lr=0.005", "--model.optimizer.momentum=0.5"]
    code, text = leyden.run("fit", "--ckpt_path", "last", *flags)
    assert code == 0, text
    lines = [line.strip() for line in text.splitlines() if " -> " in line]
    assert sorted(lines) == [
        "model.optimizer.lr: 0.02 -> 0.005",
        "model.optimizer.momentum: 0.9 -> 0.5",
        "trainer.max_epochs: 1 -> 2",
    ]
    (group,) = read_checkpoint(run / LAST)["optimizer_states"][0]["param_groups"]
    assert group["momentum"] == 0.5
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.005)  # what the schedule makes of the new rate
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    optimizer.step()
    schedule.step()
    schedule.step()
    assert group["lr"] == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--model.optimizer=torch.optim.Adam", "--trainer.max_epochs=2"], "model.optimizer.class_path was"),
        (["--model=MLP", "--trainer.max_epochs=2"], "model.class_path was"),
        (["--model.lr_scheduler.T_max=9", "--trainer.max_epochs=2"], "model.lr_scheduler.T_max was 30, now 9"),
        (["--data.size=20", "--trainer.max_epochs=2"], "weights do not fit ConvNet"),
    ],
)
def test_what_cannot_go_on_is_refused(leyden: Server, run: Path, flags: list[str], reason: str) -> None:
    code, text = leyden.run("fit", "--ckpt_path", "last", *flags)
    assert code == 2, text
    assert reason in text


def test_in_the_middle_of_an_epoch_the_batches_cannot_change(leyden: Server) -> None:
    process = leyden.start(*FIT, "--name", "half", at=("on_train_batch_end", 20, 15))
    assert process.wait() == 143
    for flag, change in (("batch_size=16", "batch_size was 32, now 16"), ("stratify=false", "stratify was True, now")):
        code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "half", f"--data.{flag}")
        assert code == 2
        assert f"error: data.{change}" in text
        assert "it cannot change in the middle of an epoch" in text


def test_a_run_that_was_moved_keeps_its_best_checkpoint(leyden: Server, run: Path) -> None:
    moved = Path(shutil.move(run, "elsewhere"))
    # so slow that no later epoch is better
    code, text = leyden.run("fit", "--ckpt_path", str(moved), "--trainer.max_epochs=2", "--model.optimizer.lr=0.02")
    assert code == 0, text
    assert [path.name for path in Path().glob("runs/run/*")] == []
    states = read_checkpoint(moved / LAST)["callbacks"]
    (best,) = [state for key, state in states.items() if key.startswith("ModelCheckpoint")]
    assert best["best_model_path"] == str(moved.absolute() / "checkpoints" / "best.ckpt")
    assert float(best["best_model_score"]) > 0


def test_another_file_of_a_run_begins_a_new_one_and_leaves_the_first_alone(leyden: Server, run: Path) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    best = str(run / "checkpoints" / "best.ckpt")
    code, text = leyden.run("fit", "--ckpt_path", best, "--trainer.max_epochs=2")
    assert code == 0, text
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    assert len(list(Path("runs/run").iterdir())) == 2


def test_a_resume_that_finds_nothing_is_an_error(leyden: Server) -> None:
    code, text = leyden.run(*FIT, "--ckpt_path", "last")
    assert code == 2
    assert "error: there is no run in runs/convnet_digits" in text
    assert not list(Path().glob("runs/*"))


def test_last_passes_over_a_run_that_was_killed_before_its_first_checkpoint(leyden: Server, run: Path) -> None:
    newer = run.with_name("9999-01-01_00-00-00")
    newer.mkdir()
    shutil.copy(run / "config.yaml", newer)
    code, text = leyden.run("fit", "--ckpt_path", "last", "--trainer.max_epochs=2")
    assert code == 0, text
    assert f"passed over, as no checkpoint was saved: {newer.name}" in text
    assert f"from  {run}/checkpoints/last.ckpt" in text
    code, text = leyden.run("fit", "--ckpt_path", str(newer))
    assert code == 2
    assert f"no checkpoint to go on from in {newer}: it ended before the first was saved" in text


@pytest.mark.slow
def test_a_run_killed_in_the_test_after_fit_is_tested_when_it_is_started_again(leyden: Server) -> None:
    again = [*FIT, "--trainer.max_epochs=1", "--test_after_fit=true"]
    assert leyden.run(*again, "--name", "whole")[0] == 0
    assert leyden.run(*again, "--name", "killed", at=("setup", 2, signal.SIGKILL))[0] == -9  # the test's
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed", "--test_after_fit=false")
    assert code == 2
    assert "error: this run is finished, at epoch 1 and step 39" in text
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 0, text
    assert "its training is finished, its test is not" in text
    assert result("killed") == result("whole")
    assert "test/acc" in result("whole")[1]
    code, text = leyden.run("fit", "--ckpt_path", "last", "--name", "killed")
    assert code == 2
    assert "error: this run is finished, at epoch 1 and step 39" in text


@pytest.mark.slow
def test_a_run_that_is_being_trained_is_not_resumed_by_another_process(leyden: Server) -> None:
    first = leyden.start(*FIT, "--trainer.max_epochs=100", "--name", "run")
    run = wait_for("runs/run/*/checkpoints/last.ckpt").parents[1]
    wait_for("runs/run/*/metrics.csv")
    first.kill(signal.SIGSTOP)
    files = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
    code, text = leyden.run("fit", "--ckpt_path", "last", "--trainer.max_epochs=200")
    assert code == 2, text
    assert f"is being trained by process {first.pid} on " in text
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == files
    first.kill()
    first.kill(signal.SIGCONT)
    assert first.wait() == -9
    code, text = leyden.run("fit", "--ckpt_path", "last", at=("on_train_batch_end", 2, signal.SIGTERM))
    assert code == 143, text


def test_rows_after_the_checkpoint_and_half_rows_are_taken_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,train/loss\r\n0,9,0.5\r\n0,19,0.4\r\n0,29,0.3\r\n0,2")
    rewind_metrics(file, 20)
    assert file.read_text() == "epoch,step,train/loss\n0,9,0.5\n0,19,0.4\n"


def test_configurations_are_compared_option_by_option() -> None:
    old = {"model": {"class_path": "A", "init_args": {"size": 1, "optimizer": {"init_args": {"lr": 0.1}}}}}
    new = {"model": {"class_path": "A", "init_args": {"size": 2, "optimizer": {"init_args": {"lr": 0.1, "eps": 1}}}}}
    assert differences(old, new) == {"model.size": (1, 2), "model.optimizer.eps": (None, 1)}
