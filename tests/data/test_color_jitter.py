"""Changes of colour beside torchvision's functions of one image."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from leyden.data.color_jitter import (
    ADJUSTMENTS,
    ColorJitter,
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    adjust_sharpness,
)
from leyden.errors import UserError

from .images import SHAPES, check_transform, images

FACTORS = torch.linspace(0, 1.97, 16)


def assert_close(ours: Tensor, theirs: Tensor, rarely: float = 0.01) -> None:
    """At most one of 256 levels apart, and rarely so."""
    assert ours.dtype == torch.uint8
    difference = (ours.int() - theirs.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() <= rarely


@pytest.mark.parametrize("shape", [*SHAPES, (16, 3, 2, 5)])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (adjust_brightness, tv.adjust_brightness),
        (adjust_contrast, tv.adjust_contrast),
        (adjust_saturation, tv.adjust_saturation),
        (adjust_sharpness, tv.adjust_sharpness),
    ],
)
def test_a_factor_changes_each_image_as_torchvision_does(
    ours: Callable[[Tensor, Tensor], Tensor], theirs: Callable[[Tensor, float], Tensor], shape: tuple[int, ...]
) -> None:
    x = images(shape)
    expected = [theirs(image, factor) for image, factor in zip(x, FACTORS.tolist(), strict=True)]
    assert_close(ours(x, FACTORS[:, None, None, None]), torch.stack(expected))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_hue_is_turned_as_torchvision_does(shape: tuple[int, ...]) -> None:
    x = images(shape)
    x[:4, :, :10] = x[:4, :1, :10]  # grey pixels of a colour image
    turns = torch.linspace(-0.5, 0.5, 16)
    expected = [tv.adjust_hue(image, turn) for image, turn in zip(x, turns.tolist(), strict=True)]
    # torchvision cuts fractions of a level off, here they are rounded
    assert_close(adjust_hue(x, turns[:, None, None, None]), torch.stack(expected), rarely=0.6)


def test_a_third_of_a_turn_makes_red_green_and_green_blue() -> None:
    red, green, blue = (
        torch.tensor(rgb, dtype=torch.uint8).reshape(1, 3, 1, 1) for rgb in ((200, 9, 9), (9, 200, 9), (9, 9, 200))
    )
    third = torch.full((1, 1, 1, 1), 1 / 3)
    assert adjust_hue(red, third).equal(green)
    assert adjust_hue(green, third).equal(blue)
    assert adjust_hue(red, -third).equal(blue)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_jitter_is_torchvisions_functions_one_after_another_in_the_drawn_order(shape: tuple[int, ...]) -> None:
    x, jitter = images(shape), ColorJitter(0.8, 0.8, 0.8, 0.0)
    draws = jitter.draw(x)
    assert jitter.transform(x, draws).shape == x.shape
    functions = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    for image, params, ours in zip(x, draws, jitter.transform(x, draws), strict=True):
        expected = image
        for index in params[4:].argsort().tolist():
            if index < 3:
                expected = functions[index](expected, float(params[index]))
        # a level apart after one function can be three apart after the next, but nearly all are the same
        assert ((ours.int() - expected.int()).abs() > 0).float().mean() < 0.02


def test_the_hue_is_one_of_the_four_changes() -> None:
    x, jitter = images((16, 3, 32, 32)), ColorJitter(0, 0, 0, 0.5)
    draws = jitter.draw(x)
    assert jitter.transform(x, draws).equal(adjust_hue(x, draws[:, 3, None, None, None]))


def test_jitter_is_drawn_for_each_sample_by_the_seed() -> None:
    check_transform(ColorJitter())


def test_nothing_to_draw_changes_nothing() -> None:
    x = images((5, 3, 20, 31))
    assert ColorJitter(0, 0, 0, 0)(x).equal(x)
    one = torch.ones(5, 1, 1, 1)
    for adjust in (*ADJUSTMENTS[:3], adjust_sharpness):
        assert adjust(x, one).equal(x)
    assert adjust_hue(x, torch.zeros(5, 1, 1, 1)).equal(x)


def test_factors_are_uniform_about_1_turns_about_0_and_every_order_equally_likely() -> None:
    draws = ColorJitter(0.4, 0.5, 2.0, 0.1).draw(torch.zeros(24_000, 3, 1, 1))
    brightness, contrast, saturation, turn = draws[:, :4].T
    for drawn, middle, largest in ((brightness, 1, 0.4), (contrast, 1, 0.5), (turn, 0, 0.1)):
        assert drawn.min() == pytest.approx(middle - largest, abs=0.01)
        assert drawn.max() == pytest.approx(middle + largest, abs=0.01)
        assert drawn.std() == pytest.approx(largest / 3**0.5, rel=0.03)
    assert saturation.min() == 0  # no factor is below
    orders = draws[:, 4:].argsort(dim=1).unique(dim=0, return_counts=True)[1]
    assert len(orders) == 24
    assert (orders / 1000).tolist() == pytest.approx([1.0] * 24, abs=0.15)


@pytest.mark.parametrize("changes", [{"hue": 0.6}, {"brightness": -0.1}])
def test_changes_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UserError, match="give 0 or more, and for the hue at most"):
        ColorJitter(**changes)
