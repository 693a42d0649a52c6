"""A checksum tells data that differ from data that do not."""

import torch

from leyden.data.array_dataset import ArrayDataset
from leyden.data.checksum import checksum


def test_a_copy_has_the_same_checksum_and_a_change_another() -> None:
    x, y = torch.arange(600).reshape(200, 3).to(torch.uint8), torch.arange(200) % 10
    before = checksum(ArrayDataset(x, y))
    assert before.startswith("200 samples with checksum ")
    assert checksum(ArrayDataset(x.clone(), y.clone())) == before
    assert checksum(ArrayDataset(x, y, torch.arange(199))) != before  # one sample less
    assert checksum(ArrayDataset(x, y, torch.arange(199, -1, -1))) != before  # another order, as of another split
    for i in (0, 199):  # a pixel of the first and the last sample
        changed = x.clone()
        changed[i, 0] += 1
        assert checksum(ArrayDataset(changed, y)) != before
    changed = y.clone()
    changed[7] = 0  # any label
    assert checksum(ArrayDataset(x, changed)) != before
