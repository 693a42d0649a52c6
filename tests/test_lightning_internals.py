"""Contracts with private names of other libraries: each test says what a new version has changed."""

import multiprocessing
from multiprocessing.queues import Queue

import pytest
from torch.utils.data import DataLoader, Dataset

from leyden.lightning_internals import send_worker_errors


class Unsendable(Dataset[object]):
    """Samples that a worker cannot send."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> object:
        return lambda: index


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="workers are not forked")
def test_a_worker_that_cannot_send_a_batch_raises_in_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queue, "_on_queue_feeder_error", Queue._on_queue_feeder_error)  # type: ignore[attr-defined]
    send_worker_errors()
    loader = DataLoader(Unsendable(), num_workers=1, collate_fn=list, timeout=60, multiprocessing_context="fork")
    errors = []
    try:
        list(loader)
    except Exception as error:
        errors.append(str(error))
    assert any("in DataLoader worker process 0" in error for error in errors), (
        "python or torch no longer raise in the run what the thread of a worker raises when it sends a batch"
    )
