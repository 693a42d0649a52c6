"""Checkpoint files: complete after a kill or on a full disk, refused if damaged, read without running code."""

import random
import re
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from leyden.checkpoints.io import SafeCheckpointIO, read_checkpoint
from leyden.errors import RunError, UserError
from leyden.runs.directory import LAST, PREVIOUS

from ..conftest import SystemCalls
from ..processes import Server, is_running, run_of, wait_for
from .conftest import DAMAGES
from .test_kills import FIT


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_by_name(leyden: Server, run: Path, damage: Callable[[Path], None]) -> None:
    damage(run / "checkpoints" / LAST)
    for command in ("fit", "test"):
        code, text = leyden.run(command, "--ckpt_path", str(run / "checkpoints" / LAST))
        assert code == 2
        assert re.search(rf"^error: {run}/checkpoints/{LAST} is ", text, re.M), text


def test_whatever_bit_is_flipped_the_file_is_refused_or_reads_as_before(finished: Path, tmp_path: Path) -> None:
    content = (finished / "checkpoints" / LAST).read_bytes()
    weights = read_checkpoint(finished / "checkpoints" / LAST)["state_dict"]
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


class Evil:
    """Runs code when unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.canary,)


def test_no_code_in_a_checkpoint_runs(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "config": Evil(tmp_path / "canary")}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"evil\.ckpt"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [[1, 2], {"weights": {}}])
def test_a_file_that_is_no_lightning_checkpoint_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "some.ckpt")
    with pytest.raises(UserError, match="state_dict"):
        read_checkpoint(tmp_path / "some.ckpt")


def test_a_text_file_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "some.ckpt").write_text("epoch,step\n0,1\n")
    with pytest.raises(UserError, match=r"some\.ckpt is damaged or is no checkpoint"):
        read_checkpoint(tmp_path / "some.ckpt")


def test_a_file_keeps_its_old_content_until_the_new_one_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "some.ckpt"
    old = {"state_dict": {"weight": torch.zeros(3)}, "global_step": 1}
    SafeCheckpointIO().save_checkpoint(old, file)
    with pytest.raises(TypeError, match="pickle"):  # the same words in every version of Python; a lambda's change
        SafeCheckpointIO().save_checkpoint(old | {"unpicklable": threading.Lock()}, file)
    assert torch.equal(read_checkpoint(file)["state_dict"]["weight"], torch.zeros(3))


def of_step(step: int) -> dict[str, Any]:
    """A checkpoint."""
    return {"state_dict": {"weight": torch.full((3,), float(step))}, "global_step": step}


def steps(folder: Path) -> dict[str, int]:
    """The step of each checkpoint in a folder, which holds nothing else."""
    return {file.name: read_checkpoint(file)["global_step"] for file in folder.iterdir()}


def test_last_is_kept_as_previous_and_other_files_are_replaced(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        for name in (LAST, "best.ckpt"):
            SafeCheckpointIO().save_checkpoint(of_step(step), tmp_path / name)
    assert steps(tmp_path) == {LAST: 3, PREVIOUS: 2, "best.ckpt": 3}


SYNCED_SAVE = [
    "fsync .last.ckpt.part",
    "replace last.ckpt previous.ckpt",
    "replace .last.ckpt.part last.ckpt",
    "fsync checkpoints",
]


def test_a_file_is_on_disk_before_it_takes_a_name_and_the_name_before_the_save_ends(
    tmp_path: Path, system_calls: SystemCalls
) -> None:
    file = tmp_path / "checkpoints" / LAST
    SafeCheckpointIO().save_checkpoint(of_step(1), file)
    assert system_calls.made == [call for call in SYNCED_SAVE if PREVIOUS not in call]
    system_calls.made.clear()
    SafeCheckpointIO().save_checkpoint(of_step(2), file)
    assert system_calls.made == SYNCED_SAVE


@pytest.mark.parametrize("failing", range(len(SYNCED_SAVE)))
def test_whichever_call_fails_one_of_the_two_files_before_is_complete(
    tmp_path: Path, system_calls: SystemCalls, failing: int
) -> None:
    file = tmp_path / "checkpoints" / LAST
    for step in (1, 2):
        SafeCheckpointIO().save_checkpoint(of_step(step), file)
    system_calls.failing = SYNCED_SAVE[failing]
    with pytest.raises(RunError, match=r"cannot write .*last\.ckpt \(Input/output error\)"):
        SafeCheckpointIO().save_checkpoint(of_step(3), file)
    assert max(steps(file.parent).values()) >= 2


def test_no_checkpoint_is_made_of_weights_that_are_not_finite(leyden: Server) -> None:
    # one step: the loss that would show it comes after the end
    code, text = leyden.run(
        *FIT, "--model.optimizer.lr=1e20", "--model.optimizer.weight_decay=1e20", "--trainer.max_steps=1"
    )
    files = list(run_of("convnet_digits").glob("checkpoints/*"))
    for file in files:
        state = torch.load(file, weights_only=True)["state_dict"]
        assert all(weight.isfinite().all() for weight in state.values())
    assert code == 1, text
    assert "holds NaN or infinity at step 1" in text


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
