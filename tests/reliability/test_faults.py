"""A loss that is not finite, and workers that hang or die."""

import os
import re
import signal
from pathlib import Path

import pytest
import torch

from leyden.data.digits import DigitsDataModule

from .conftest import Server, is_running, run_of, wait_for
from .test_kills import FIT


def test_a_loss_that_is_not_finite_ends_the_run_with_its_place_and_samples(leyden: Server) -> None:
    code, text = leyden.run(*FIT, "--model.optimizer.lr=1e30", "--seed_everything=5")
    assert code == 1
    (line,) = [line for line in text.splitlines() if line.startswith("error:")]
    found = re.search(r"loss is (nan|inf) at step (\d+) \(epoch 0, batch (\d+), training samples ([\d ]+)\)", line)
    assert found, line
    assert int(found[2]) == int(found[3])
    kept = re.search(r"the last good checkpoint is (\S+);", line)
    assert kept, line
    state = torch.load(kept[1], weights_only=True)["state_dict"]
    assert all(weight.isfinite().all() for weight in state.values())

    # the same samples, drawn by a DataModule of its own
    data = DigitsDataModule(batch_size=32)
    data.setup()
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setenv("PL_GLOBAL_SEED", "5")
        indices = list(data.train_dataloader().sampler)[32 * int(found[3]) :][:32]
    assert found[4] == " ".join(map(str, indices))


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
