"""Seeds of positions."""

from types import SimpleNamespace
from typing import Any

import torch

from leyden.data.seeds import derive_seed, seed_step


def trainer_at(epoch: int, batch: int, training: bool = True, rank: int = 0) -> Any:
    """What the sampler reads off a Trainer that is about to run this batch."""
    done = SimpleNamespace(completed=batch)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=done)))
    return SimpleNamespace(training=training, current_epoch=epoch, fit_loop=loop, global_rank=rank)


def test_neighbouring_positions_have_different_seeds() -> None:
    positions = [(e, b, r) for e in range(10) for b in range(10) for r in range(10)]
    seeds = {derive_seed(seed, *p) for seed in (0, 1) for p in [(), (0,), (1,), *positions]}
    assert len(seeds) == 2 * (3 + 1000)


def test_a_step_is_seeded_by_its_position_and_rank() -> None:
    def draw(*position: int, seed: int = 0) -> float:
        epoch, batch, rank = position
        seed_step(trainer_at(epoch, batch, rank=rank), torch.device("cpu"), seed)
        return float(torch.rand(()))

    first = draw(1, 2, 3)
    assert first == float(torch.rand((), generator=torch.Generator().manual_seed(derive_seed(0, 1, 2, 3))))
    torch.rand(5)
    assert draw(1, 2, 3) == first
    assert len({first, draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 0), draw(1, 2, 3, seed=1)}) == 5
