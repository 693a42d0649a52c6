"""The order of samples: what it depends on, where it is entered, how ranks share it."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import RunningStage
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    WeightedRandomSampler,
)

from leyden.data.datamodules import ArrayDataset
from leyden.data.samplers import (
    ClassBalancedSampler,
    DistributedEvalSampler,
    ResumableSampler,
)
from leyden.errors import UserError

DATASET = ArrayDataset(torch.arange(103.0), torch.arange(103) % 7)


def resumable(sampler: Sampler[int] | None = None, **kwargs: Any) -> ResumableSampler:
    return ResumableSampler(sampler or RandomSampler(DATASET), DATASET, batch_size=10, **kwargs)


def order(sampler: ResumableSampler, epoch: int = 0) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def trainer_at(epoch: int, batch: int, training: bool = True, rank: int = 0) -> Any:
    """What the sampler reads off a Trainer that is about to run this batch."""
    done = SimpleNamespace(completed=batch)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=done)))
    return SimpleNamespace(training=training, current_epoch=epoch, fit_loop=loop, global_rank=rank)


def test_an_epoch_is_every_sample_once_in_random_order() -> None:
    assert sorted(order(resumable())) == list(range(103))
    assert order(resumable()) != list(range(103))


def test_the_order_is_a_function_of_seed_and_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    first = order(resumable(), epoch=3)
    torch.manual_seed(99)
    assert order(resumable(), epoch=3) == first
    assert order(resumable(), epoch=4) != first
    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    assert order(resumable(), epoch=3) != first


@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(DATASET),
        RandomSampler(DATASET, replacement=True, num_samples=500),
        RandomSampler(DATASET, generator=torch.Generator()),
        WeightedRandomSampler([1.0] * 103, 50),
        WeightedRandomSampler([1.0] * 103, 50, generator=torch.Generator()),
    ],
)
def test_any_sampler_becomes_repeatable(sampler: Sampler[int]) -> None:
    first = order(resumable(sampler), epoch=1)
    assert order(resumable(sampler), epoch=2) != first
    assert order(resumable(sampler), epoch=1) == first


def test_drawing_an_order_leaves_the_global_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    order(resumable())
    assert torch.get_rng_state().equal(before)


def test_a_resumed_epoch_is_the_rest_of_the_whole_one() -> None:
    whole = order(resumable(), epoch=2)
    resumed = resumable(trainer=trainer_at(epoch=2, batch=4))
    assert list(resumed) == whole[40:]
    assert len(resumed) == 103


def test_outside_of_training_the_position_of_the_trainer_does_not_count() -> None:
    sampler = resumable(trainer=trainer_at(epoch=2, batch=4, training=False))
    assert list(sampler) == order(resumable(), epoch=0)


def test_the_position_is_read_when_the_first_sample_is_wanted() -> None:
    trainer = trainer_at(epoch=0, batch=0)
    sampler = resumable(trainer=trainer)
    trainer.current_epoch = 5
    assert list(sampler) == order(resumable(), epoch=5)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_share_an_epoch_evenly_without_overlap(world_size: int) -> None:
    whole = order(resumable(), epoch=1)
    shares = [order(resumable(num_replicas=world_size, rank=rank), epoch=1) for rank in range(world_size)]
    assert {len(share) for share in shares} == {103 // world_size}
    assert sorted(i for share in shares for i in share) == sorted(whole[: 103 - 103 % world_size])


def test_ranks_resume_in_their_own_share() -> None:
    share = order(resumable(num_replicas=2, rank=1), epoch=1)
    trainer = trainer_at(epoch=1, batch=3, rank=1)
    assert list(resumable(num_replicas=2, rank=1, trainer=trainer)) == share[30:]


def test_lightning_takes_the_samplers_for_distributed_ones() -> None:
    assert isinstance(resumable(), DistributedSampler)
    assert isinstance(DistributedEvalSampler(DATASET, 2, 0), DistributedSampler)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_evaluate_every_sample_once(world_size: int) -> None:
    shares = [DistributedEvalSampler(DATASET, world_size, rank) for rank in range(world_size)]
    assert sorted(i for share in shares for i in share) == list(range(103))
    assert [len(share) for share in shares] == [len(list(share)) for share in shares]


def test_lightning_gives_other_peoples_evaluation_torchs_own_sampler() -> None:
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)  # starts no process before `fit`
    connector = trainer._data_connector
    loader = DataLoader(DATASET, batch_size=10)  # type: ignore[var-annotated]
    prepared = connector._prepare_dataloader(loader, shuffle=False, mode=RunningStage.TESTING)
    assert type(prepared.sampler) is DistributedSampler
    own = DataLoader(DATASET, batch_size=10, sampler=DistributedEvalSampler(DATASET, 2, 0))  # type: ignore[var-annotated]
    assert connector._prepare_dataloader(own, shuffle=False, mode=RunningStage.TESTING) is own


def test_torchs_own_sampler_counts_samples_twice_where_the_ranks_do_not_share_evenly() -> None:
    wrong = 0  # the index of the one sample of 103 that is not recognised
    padded = [i for rank in range(2) for i in DistributedSampler(DATASET, 2, rank, shuffle=False)]
    assert len(padded) == 104
    assert padded.count(wrong) / len(padded) == 2 / 104
    ours = [i for rank in range(2) for i in DistributedEvalSampler(DATASET, 2, rank)]
    assert ours.count(wrong) / len(ours) == 1 / 103


def test_a_sequential_sampler_stays_sequential() -> None:
    assert order(resumable(SequentialSampler(DATASET)), epoch=7) == list(range(103))


@pytest.mark.parametrize("drawn", [0, 5])
def test_a_sampler_that_draws_fewer_samples_than_it_says_is_refused(drawn: int) -> None:
    class Short(SequentialSampler):
        def __iter__(self) -> Iterator[int]:
            return iter(range(drawn))

    with pytest.raises(UserError, match=f"Short draws {drawn} samples, but its length is 103"):
        order(resumable(Short(DATASET)), epoch=0)


def test_class_balance_is_refused_where_there_are_no_classes() -> None:
    with pytest.raises(UserError, match="these targets are real numbers"):
        ClassBalancedSampler(ArrayDataset(torch.zeros(4, 1), torch.zeros(4, 1)))
