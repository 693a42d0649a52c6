"""Seeds that are functions of the run's seed and a position, so that a resumed run draws the same numbers."""

import os
import random
from functools import lru_cache

import numpy as np
import torch
from lightning.pytorch import Trainer

from leyden.errors import UserError

MAX_SEED = 2**32 - 1  # the largest that NumPy's global generator takes, and so Lightning's `seed_everything`
SEEDS_AT_ONCE = 64


def derive_seed(seed: int, *position: int) -> int:
    """Return a 64-bit seed for a position, such as (epoch, batch, rank), by `numpy.random.SeedSequence`.

    Neighbouring positions have unrelated seeds. With `seed + epoch`, epoch 1 of seed 0 would be epoch 0 of seed 1.
    """
    return int(np.random.SeedSequence(seed, spawn_key=position).generate_state(1, np.uint64)[0])


@lru_cache(maxsize=1)
def _step_seeds(seed: int, epoch: int, block: int, rank: int) -> list[int]:
    """Return `derive_seed(seed, epoch, batch, rank)` for SEEDS_AT_ONCE neighbouring batches.

    One by one, between steps, each takes five times as long; and nearly twice as long from Python integers as from the
    words that `SeedSequence` makes of them: the seed, padded to its pool of four, and the spawn_key.
    """
    words = np.array([seed, 0, 0, 0, epoch, 0, rank], dtype=np.uint32)
    seeds = []
    for batch in range(block * SEEDS_AT_ONCE, (block + 1) * SEEDS_AT_ONCE):
        words[5] = batch
        seeds.append(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))
    return seeds


def run_seed() -> int:
    """Return the seed of Lightning's `seed_everything`; 0 without one."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


def check_seed(seed: int | bool) -> None:
    """Reject a seed that Lightning or NumPy would not take.

    Args:
        seed: The option `seed_everything`; False if the seed is that of the variable PL_GLOBAL_SEED.

    Raises:
        UserError: It is out of range, or True.
    """
    name, value = "seed_everything", str(seed)
    if seed is False:
        name, value = "PL_GLOBAL_SEED", os.environ.get("PL_GLOBAL_SEED", "0")
    if not value.isdecimal() or int(value) > MAX_SEED:
        raise UserError(f"{name} is {value}, but must be a whole number from 0 to {MAX_SEED}")


def next_position(trainer: Trainer) -> tuple[int, int]:
    """Return the epoch and the index of the training batch that is fetched next."""
    # not `fit_loop.batch_idx + 1`, which is too large for a training_step that takes a `dataloader_iter`
    return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.completed


def seed_generators(seed: int, device: torch.device | None = None) -> None:
    """Seed the global generators of Python, NumPy and torch, on the CPU and, for a GPU, on the current one."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # 32 bits at most
    # torch.manual_seed seeds all devices and takes 100 times as long
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        torch.cuda.manual_seed(seed)


def seed_step(trainer: Trainer, device: torch.device, seed: int) -> None:
    """Seed the random draws of the next training step (augmentation, dropout) by its position and rank."""
    epoch, batch = next_position(trainer)
    block, index = divmod(batch, SEEDS_AT_ONCE)
    seed_generators(_step_seeds(seed, epoch, block, trainer.global_rank)[index], device)
