"""The label above each image of a batch, and its pixels."""

from pathlib import Path

import numpy as np
import torch

from leyden.cli.batch_picture import draw_batch, label_texts
from leyden.data.digits import DigitsDataModule

from .drawn import images_in


def test_a_target_is_written_as_its_class_as_shares_of_classes_or_as_numbers() -> None:
    names = ["cat", "dog", "a_name_of_thirty_characters_xx"]
    assert label_texts(torch.tensor([1, 2, 7]), names) == ["dog", "a_name_of_thirt...", "7"]
    shares = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], [1e-5, 1 - 1e-5, 0.0]])
    assert label_texts(shares, names) == ["cat 0.70\ndog 0.30", "a_name_of_thirt...", "dog"]
    assert label_texts(torch.tensor([0.5, -2.0]), names) == ["0.5", "-2"]
    assert label_texts(torch.arange(10.0).reshape(2, 5), names) == ["0, 1, 2, 3", "5, 6, 7, 8"]


def test_soft_targets_are_drawn(tmp_path: Path) -> None:
    data = DigitsDataModule(size=8)
    x = data.normalize(torch.randint(17, (3, 1, 8, 8), dtype=torch.uint8))
    line = draw_batch(tmp_path / "a.png", [x, torch.full((3, 10), 0.1)], data, list("0123456789"), 2)
    assert "2 of 3 images" in line
    drawn = images_in(tmp_path / "a.png", 2, 8, text_lines=2)
    expected = ((x * data.std + data.mean) * 255).round().byte()
    for image, wanted in zip(drawn, expected, strict=False):
        assert np.array_equal(image[..., 0], wanted[0])
