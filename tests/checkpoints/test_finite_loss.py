"""A training loss that is NaN or infinite ends the run, with its batch named."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from leyden.checkpoints.finite_loss import FiniteLoss
from leyden.data.digits import DigitsDataModule
from leyden.errors import RunError

from ..processes import Server
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


def test_on_a_gpu_losses_are_checked_together_and_before_each_checkpoint(tmp_path: Path) -> None:
    callback = FiniteLoss()
    strategy = SimpleNamespace(broadcast=lambda path: path)
    trainer: Any = SimpleNamespace(
        default_root_dir=tmp_path,
        strategy=strategy,
        log_every_n_steps=3,
        current_epoch=2,
        global_step=90,
        train_dataloader=None,
        fit_loop=SimpleNamespace(batch_idx=0),
    )
    module: Any = SimpleNamespace(device=torch.device("cuda"))
    callback.setup(trainer, module, "fit")
    callback.on_train_start(trainer, module)

    def train(*losses: float) -> None:
        for trainer.fit_loop.batch_idx, loss in enumerate(losses):
            callback.on_before_backward(trainer, module, torch.tensor(loss))

    train(1.0, 2.0, 3.0, float("nan"))
    with pytest.raises(RunError, match=r"the training loss is nan at step 90 \(epoch 2, batch 3\); there is no check"):
        callback.on_save_checkpoint(trainer, module, {})
    with pytest.raises(RunError, match=r"loss is inf at step 90 \(epoch 2, batch 1\)"):
        train(1.0, float("inf"), 3.0)
    train(1.0)
    callback.on_train_epoch_end(trainer, module)
