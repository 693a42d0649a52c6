"""Random images, and what every random transform must do with them."""

import torch
from torch import Tensor

from leyden.data.transforms import RandomTransform

SHAPES = [(16, 1, 28, 28), (16, 3, 32, 32), (16, 3, 20, 31)]


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.uint8) -> Tensor:
    x = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return x if dtype == torch.uint8 else x.to(dtype) / 255


def check_transform(transform: RandomTransform) -> None:
    """Different for each sample, the same after the same seed, and the batch is left as it was."""
    x = images((1, 3, 32, 32)).expand(64, -1, -1, -1)
    before = x.clone()
    torch.manual_seed(3)
    y = transform(x)
    assert x.equal(before)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    assert len(y.flatten(1).unique(dim=0)) > 32
    torch.manual_seed(3)
    assert transform(x).equal(y)
    assert not transform(x).equal(y)
