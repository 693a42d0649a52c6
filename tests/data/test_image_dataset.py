"""Images that are read for each batch."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from leyden.data.image_dataset import ImageFileDataset
from leyden.data.image_files import ImageReader
from leyden.data.workers import without_traceback
from leyden.errors import RunError

from .pictures import make_folder


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_is_lost_is_named_in_one_line_also_by_a_worker(tmp_path: Path, num_workers: int) -> None:
    root = make_folder(tmp_path, 2)
    dataset = ImageFileDataset(root, ImageReader(3, 8), ["red/0.png", "red/1.jpg"], torch.tensor([2, 2]))
    (root / "red" / "1.jpg").unlink()
    with pytest.raises(RunError) as raised:
        next(iter(DataLoader(dataset, batch_size=2, num_workers=num_workers)))
    assert str(without_traceback(raised.value)) == (
        "red/1.jpg could be read before, and now not (cannot be read: No such file or directory)"
    )
