"""Mixup and CutMix against their formulas."""

import pytest
import torch
from torch import Tensor

from leyden.data.mix import CutMix, Mix, Mixup, MixupOrCutMix
from leyden.errors import UserError

BOTH = [Mixup(), CutMix()]


def batch(size: int = 64, classes: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, 3, 16, 24, generator=generator), torch.arange(size) % classes


def test_mixup_is_the_weighted_sum_of_two_images_and_of_their_labels() -> None:
    x, y = batch()
    torch.manual_seed(0)
    mixed, target = Mixup(1.0)(x, y, 10)
    torch.manual_seed(0)
    partner = torch.randperm(64)
    share = Mixup(1.0).draw(x)
    assert len(share.unique()) > 60
    for index in range(64):
        part, other = float(share[index]), int(partner[index])
        torch.testing.assert_close(mixed[index], part * x[index] + (1 - part) * x[other])
        expected = torch.zeros(10)
        expected[y[index]] += part
        expected[y[other]] += 1 - part
        torch.testing.assert_close(target[index], expected)


def test_cutmix_pastes_a_box_and_mixes_the_labels_by_its_pixels() -> None:
    x, y = batch()
    torch.manual_seed(0)
    mixed, target = CutMix()(x, y, 10)
    torch.manual_seed(0)
    partner = torch.randperm(64)
    boxes = CutMix().draw(x)
    for index, (top, left, height, width) in enumerate(boxes.tolist()):
        expected = x[index].clone()
        box = (slice(None), slice(top, top + height), slice(left, left + width))
        expected[box] = x[partner[index]][box]
        assert mixed[index].equal(expected)
        probabilities = torch.zeros(10)
        probabilities[y[index]] += 1 - height * width / (16 * 24)
        probabilities[y[partner[index]]] += height * width / (16 * 24)
        torch.testing.assert_close(target[index], probabilities)


@pytest.mark.parametrize("mix", [*BOTH, MixupOrCutMix()])
def test_targets_are_probabilities_and_images_keep_shape_and_dtype(mix: Mix | MixupOrCutMix) -> None:
    x, y = batch()
    before = x.clone()
    mixed, target = mix(x, y, 10)
    assert x.equal(before)
    assert (mixed.shape, mixed.dtype) == (x.shape, x.dtype)
    assert (target.shape, target.dtype) == ((64, 10), torch.float32)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(64))
    assert target.min() >= 0


@pytest.mark.parametrize("mix", [*BOTH, MixupOrCutMix()])
def test_mixtures_follow_the_seed(mix: Mix | MixupOrCutMix) -> None:
    x, y = batch()
    torch.manual_seed(3)
    first = mix(x, y, 10)
    torch.manual_seed(3)
    again = mix(x, y, 10)
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not mix(x, y, 10)[0].equal(first[0])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_have_the_mean_and_the_variance_of_their_beta_distribution(alpha: float) -> None:
    share = Mixup(alpha).draw(torch.zeros(40_000, 1))
    assert float(share.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(share.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_a_box_of_cutmix_has_the_drawn_area_unless_it_is_cut_off_and_a_uniform_centre() -> None:
    x = torch.zeros(20_000, 1, 101, 201)
    torch.manual_seed(0)
    top, left, height, width = CutMix().draw(x).double().T
    torch.manual_seed(0)
    drawn = 1 - CutMix().draw_shares(x).double()
    whole = (top > 0) & (left > 0) & (top + height < 101) & (left + width < 201)
    torch.testing.assert_close((height * width / (101 * 201))[whole], drawn[whole], atol=0.03, rtol=0)
    assert (height * width / (101 * 201) <= drawn + 1e-6).all()
    small = drawn < 0.01
    assert float((top + height / 2)[small].mean()) == pytest.approx(50, abs=6)
    assert float((left + width / 2)[small].mean()) == pytest.approx(100, abs=12)


def test_half_of_the_batches_are_mixed_by_mixup() -> None:
    both, made = MixupOrCutMix(), []
    both.mixup.forward = lambda *_: made.append("mixup")  # type: ignore[method-assign]
    both.cutmix.forward = lambda *_: made.append("cutmix")  # type: ignore[method-assign]
    for _ in range(400):
        both(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1]), 2)
    assert made.count("mixup") + made.count("cutmix") == 400
    assert 160 < made.count("mixup") < 240


@pytest.mark.parametrize("mix", [Mixup, CutMix])
def test_an_alpha_of_0_is_refused(mix: type[Mixup | CutMix]) -> None:
    with pytest.raises(UserError, match="alpha is 0, but must be above 0"):
        mix(alpha=0)
