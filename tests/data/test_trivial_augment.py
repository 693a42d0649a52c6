"""Each operation of TrivialAugment beside torchvision's functions of one image, at every strength."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from leyden.data.trivial_augment import OPERATIONS, TrivialAugment

from .images import check_transform, images


def sheared(image: Tensor, x: float, y: float) -> Tensor:
    angles = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return tv.affine(image, 0.0, [0, 0], 1.0, angles, center=[0.0, 0.0])  # type: ignore[no-any-return]


def shifted(image: Tensor, x: float, y: float) -> Tensor:
    return tv.affine(image, 0.0, [int(x), int(y)], 1.0, [0.0, 0.0])  # type: ignore[no-any-return]


EXPECTED: dict[str, Callable[[Tensor, float], Tensor]] = {  # the wide space of the paper: an image and -1 to 1
    "identity": lambda image, _: image,
    "shear_x": lambda image, s: sheared(image, 0.99 * s, 0.0),
    "shear_y": lambda image, s: sheared(image, 0.0, 0.99 * s),
    "translate_x": lambda image, s: shifted(image, 32 * s, 0),
    "translate_y": lambda image, s: shifted(image, 0, 32 * s),
    "rotate": lambda image, s: tv.rotate(image, 135 * s),
    "brightness": lambda image, s: tv.adjust_brightness(image, 1 + 0.99 * s),
    "color": lambda image, s: tv.adjust_saturation(image, 1 + 0.99 * s),
    "contrast": lambda image, s: tv.adjust_contrast(image, 1 + 0.99 * s),
    "sharpness": lambda image, s: tv.adjust_sharpness(image, 1 + 0.99 * s),
    "posterize": lambda image, s: tv.posterize(image, 8 - round(6 * abs(s))),
    "solarize": lambda image, s: tv.solarize(image, 255 * (1 - abs(s))),
    "autocontrast": lambda image, _: tv.autocontrast(image),
    "equalize": lambda image, _: tv.equalize(image),
}


@pytest.mark.parametrize("shape", [(61, 1, 28, 28), (61, 3, 32, 32), (61, 3, 20, 31)])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_that_of_torchvision_at_every_strength(name: str, shape: tuple[int, ...]) -> None:
    x = images(shape) // 2 + 40  # autocontrast has something to do
    levels = torch.arange(-30, 31)
    draws = torch.stack([torch.full((61,), OPERATIONS.index(name)), levels], dim=1)
    ours = TrivialAugment().transform(x, draws)
    expected = torch.stack([EXPECTED[name](image, level / 30) for image, level in zip(x, levels.tolist(), strict=True)])
    assert ours.dtype == torch.uint8
    different = (ours != expected).float().mean()
    # rounding decides which of two pixels is nearer, and on which side of the threshold of solarize a pixel is
    assert different < (0.02 if name in ("shear_x", "shear_y", "rotate") else 0.01)
    if name not in ("shear_x", "shear_y", "rotate", "solarize"):
        assert (ours.int() - expected.int()).abs().max() <= (0 if name.startswith("translate") else 1)


def test_a_batch_of_all_operations_is_each_by_itself() -> None:
    x, augment = images((64, 3, 32, 32)), TrivialAugment()
    draws = augment.draw(x)
    whole = augment.transform(x, draws)
    assert len(draws[:, 0].unique()) > 8
    for index in range(64):
        assert augment.transform(x[index : index + 1], draws[index : index + 1])[0].equal(whole[index])


def test_it_is_drawn_for_each_sample_by_the_seed() -> None:
    check_transform(TrivialAugment())


def test_each_operation_strength_and_sign_is_equally_likely() -> None:
    operation, level = TrivialAugment().draw(torch.zeros(61_000, 3, 1, 1)).T
    assert (operation.bincount(minlength=14) / 61_000).tolist() == pytest.approx([1 / 14] * 14, rel=0.05)
    assert (level.abs().bincount(minlength=31) / 61_000).tolist() == pytest.approx([1 / 31] * 31, rel=0.08)
    assert (level > 0).float().mean() == pytest.approx(30 / 62, abs=0.01)
