"""The batched transforms beside torchvision's functions of one image, at the same draws."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from leyden.data.transforms import PerSample, RandomAffine, RandomCrop, RandomHorizontalFlip, RandomTransform

from .images import SHAPES, images


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_crops_are_those_of_torchvision(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, crop = images(shape, dtype), RandomCrop(padding=4)
    draws = crop.draw(x)
    expected = [
        tv.crop(tv.pad(image, [4]), top, left, *shape[2:]) for image, (top, left) in zip(x, draws.tolist(), strict=True)
    ]
    assert crop.transform(x, draws).equal(torch.stack(expected))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_flips_are_those_of_torchvision(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, flip = images(shape, dtype), RandomHorizontalFlip()
    draws = flip.draw(x)
    expected = [tv.horizontal_flip(i) if flipped else i for i, flipped in zip(x, draws.tolist(), strict=True)]
    assert flip.transform(x, draws).equal(torch.stack(expected))


@pytest.mark.parametrize(
    "affine",
    [RandomAffine(degrees=30), RandomAffine(translate=0.2), RandomAffine(degrees=180, translate=0.1)],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_rotations_and_shifts_are_those_of_torchvision(shape: tuple[int, ...], affine: RandomAffine) -> None:
    x = images(shape)
    draws = affine.draw(x)
    expected = [
        tv.affine(i, angle, [right, down], scale=1.0, shear=[0.0, 0.0], interpolation=InterpolationMode.BILINEAR)
        for i, (angle, right, down) in zip(x, draws.tolist(), strict=True)
    ]
    assert (affine.transform(x, draws).int() - torch.stack(expected).int()).abs().max() <= 1


ALL = [RandomCrop(4), RandomHorizontalFlip(), RandomAffine(degrees=15, translate=0.1)]


@pytest.mark.parametrize("transform", ALL)
def test_the_samples_of_a_batch_are_changed_differently(transform: RandomTransform) -> None:
    x = images((1, 3, 32, 32)).expand(64, -1, -1, -1)
    y = transform(x)
    different = len(y.flatten(1).unique(dim=0))
    assert different == 2 if isinstance(transform, RandomHorizontalFlip) else different > 32


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("transform", ALL)
def test_shape_and_dtype_are_kept(transform: RandomTransform, dtype: torch.dtype) -> None:
    y = transform(images((5, 3, 20, 31), dtype))
    assert y.shape == (5, 3, 20, 31)
    assert y.dtype == dtype


@pytest.mark.parametrize("transform", ALL)
def test_the_batch_given_is_left_as_it_was(transform: RandomTransform) -> None:
    x = images((5, 3, 32, 32))
    before = x.clone()
    transform(x)
    assert x.equal(before)


def test_draws_are_spread_evenly() -> None:
    x = torch.zeros(50_000, 1, 2, 4)
    counts = RandomCrop(1).draw(x).flatten().bincount() / 100_000
    assert counts.tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
    assert float(RandomHorizontalFlip(0.25).draw(x).float().mean()) == pytest.approx(0.25, abs=0.01)
    angle, right, down = RandomAffine(degrees=10, translate=0.5).draw(x).T
    for draw, largest in [(angle, 10.0), (right, 2.0), (down, 1.0)]:
        assert float(draw.abs().max()) == pytest.approx(largest, rel=0.01)
        assert float(draw.std()) == pytest.approx(largest / 3**0.5, rel=0.02)  # of a uniform distribution


def test_what_leaves_nothing_to_draw_changes_nothing() -> None:
    x = images((5, 3, 32, 32))
    for transform in (RandomCrop(0), RandomHorizontalFlip(0.0), RandomAffine()):
        assert transform(x).equal(x)


def test_draws_follow_the_seed() -> None:
    x = images((5, 3, 32, 32))
    for transform in ALL:
        torch.manual_seed(3)
        first = transform(x)
        torch.manual_seed(3)
        assert transform(x).equal(first)


def test_any_transform_of_torchvision_is_applied_to_one_image_after_another() -> None:
    x, theirs = images((16, 3, 32, 32)), v2.RandomPerspective(p=1)
    torch.manual_seed(3)
    y = PerSample(theirs)(x)
    torch.manual_seed(3)
    assert y.equal(torch.stack([theirs(image) for image in x]))
    same = PerSample(theirs)(x[:1].expand(16, -1, -1, -1))
    assert len(same.flatten(1).unique(dim=0)) == 16  # without PerSample: 1


@pytest.mark.parametrize("transform", ALL)
def test_a_batch_larger_than_the_cache_is_transformed_in_parts_with_the_same_result(
    transform: RandomTransform, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = images((16, 3, 32, 32))
    torch.manual_seed(3)
    whole = transform(x)
    for size in (3 * 32 * 32 * 5, 1):  # 5 samples, and less than one
        monkeypatch.setattr("leyden.data.transforms.CACHED_VALUES", size)
        torch.manual_seed(3)
        assert transform(x).equal(whole)
