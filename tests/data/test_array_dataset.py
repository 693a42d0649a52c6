"""Batches of a dataset of arrays against its samples."""

import pytest
import torch

from leyden.data.array_dataset import ArrayDataset

from .arrays import Hundred, ready


def test_the_arrays_are_held_once() -> None:
    dm = ready(Hundred(val_size=30))
    assert dm.train_set.x.data_ptr() == dm.val_set.x.data_ptr()


def test_a_batch_is_what_its_samples_are_one_by_one() -> None:
    x, y = torch.randn(20, 3), torch.arange(20)
    dataset = ArrayDataset(x, y, indices=torch.tensor([5, 3, 17, 8]))
    assert len(dataset) == 4
    assert dataset.labels.tolist() == [5, 3, 17, 8]
    batch_x, batch_y = dataset.__getitems__([2, 0, 2])
    assert batch_x.equal(torch.stack([dataset[2][0], dataset[0][0], dataset[2][0]]))
    assert batch_y.tolist() == [17, 5, 17]


@pytest.mark.parametrize("index", [-1, 4])
def test_an_index_outside_the_dataset_is_refused(index: int) -> None:
    dataset = ArrayDataset(torch.zeros(9, 1), torch.zeros(9), indices=torch.arange(4))
    with pytest.raises(IndexError):
        dataset.__getitems__([0, index])
