"""Random crops that are enlarged, and erased boxes, beside torchvision's functions of one image at the same draws."""

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from leyden.data.boxes import RandomErasing, RandomResizedCrop, draw_boxes, inside
from leyden.errors import UserError

from .images import SHAPES, check_transform, images


@pytest.mark.parametrize("shape", SHAPES)
def test_enlarged_crops_are_those_of_torchvision(shape: tuple[int, ...]) -> None:
    crop = RandomResizedCrop()
    draws = crop.draw(images(shape))
    for dtype, tolerance in ((torch.uint8, 1), (torch.float32, 1e-5)):
        x = images(shape, dtype)
        expected = [
            tv.resized_crop(image, *box, list(shape[2:]), InterpolationMode.BILINEAR, antialias=True)
            for image, box in zip(x, draws.tolist(), strict=True)
        ]
        torch.testing.assert_close(crop.transform(x, draws), torch.stack(expected), atol=tolerance, rtol=0)


def test_a_crop_of_the_whole_image_changes_nothing() -> None:
    x = images((5, 3, 20, 31))
    assert RandomResizedCrop((1.0, 1.0), (31 / 20, 31 / 20))(x).equal(x)


@pytest.mark.parametrize("shape", SHAPES)
def test_erased_boxes_are_those_of_torchvision(shape: tuple[int, ...]) -> None:
    x, erasing = images(shape), RandomErasing(value=7)
    draws = erasing.draw(x)
    expected = [tv.erase(image, *box, torch.tensor(7)) for image, box in zip(x, draws.tolist(), strict=True)]
    assert erasing.transform(x, draws).equal(torch.stack(expected))


@pytest.mark.parametrize("transform", [RandomResizedCrop(), RandomErasing(p=1)])
def test_boxes_are_drawn_for_each_sample_by_the_seed(transform: RandomResizedCrop | RandomErasing) -> None:
    check_transform(transform)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("transform", [RandomResizedCrop(), RandomErasing()])
def test_the_dtype_is_kept(transform: RandomResizedCrop | RandomErasing, dtype: torch.dtype) -> None:
    assert transform(images((5, 3, 20, 31), dtype)).dtype == dtype


@pytest.mark.slow
def test_the_area_of_a_box_is_uniform_its_ratio_log_uniform_and_its_place_uniform() -> None:
    x = torch.zeros(20_000, 1, 200, 200)
    top, left, height, width = draw_boxes(x, (0.02, 0.33), (0.3, 3.3)).double().T
    area, ratio = height * width / 200**2, width / height
    assert area.min() == pytest.approx(0.02, abs=0.003)
    assert area.max() == pytest.approx(0.33, abs=0.003)
    assert area.quantile(torch.tensor([0.25, 0.5, 0.75]).double()).tolist() == pytest.approx(
        [0.0975, 0.175, 0.2525], abs=0.005
    )
    assert ratio.log().quantile(torch.tensor([0.0, 0.5, 1.0]).double()).tolist() == pytest.approx(
        [-1.2, 0.0, 1.2], abs=0.05
    )
    for start, length in ((top, height), (left, width)):
        place = (start + 0.5) / (200 - length + 1)
        assert place.mean() == pytest.approx(0.5, abs=0.01)
        assert place.std() == pytest.approx(12**-0.5, abs=0.01)
        assert start.min() == 0
        assert (start + length).max() == 200


def test_crops_have_the_distribution_of_torchvisions() -> None:
    x = torch.zeros(4000, 3, 32, 48)
    ours = RandomResizedCrop().draw(x)[:, 2:].prod(dim=1).float() / (32 * 48)
    theirs = v2.RandomResizedCrop((32, 48))
    drawn = [theirs.make_params([x[0]]) for _ in range(4000)]
    expected = torch.tensor([float(box["height"] * box["width"]) for box in drawn]) / (32 * 48)
    assert float(ours.mean()) == pytest.approx(float(expected.mean()), abs=0.02)
    assert float(ours.std()) == pytest.approx(float(expected.std()), abs=0.02)


def test_as_many_images_are_erased_as_asked_for_and_the_erased_part_is_within_its_bounds() -> None:
    x = torch.full((4000, 1, 32, 32), 255, dtype=torch.uint8)
    share = (RandomErasing(p=0.25)(x) == 0).float().mean(dim=(1, 2, 3))
    erased = share[share > 0]
    assert len(erased) / 4000 == pytest.approx(0.25, abs=0.03)
    assert erased.min() > 0.01  # 0.02 but for the rounding to pixels
    assert erased.max() < 0.36
    assert erased.mean() == pytest.approx(0.175, abs=0.01)


def test_where_no_box_fits_a_crop_is_the_whole_image_and_nothing_is_erased() -> None:
    x = images((5, 3, 4, 40))
    assert RandomResizedCrop((0.9, 1.0), (1.0, 1.0))(x).equal(x)
    assert RandomErasing(1.0, (0.9, 1.0), (1.0, 1.0))(x).equal(x)


def test_the_pixels_inside_of_a_box_are_those_of_its_slice() -> None:
    boxes = torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0]])
    mask = inside(boxes, 6, 9)
    assert mask.shape == (2, 1, 6, 9)
    assert mask[0, 0, 1:4, 2:6].all()
    assert mask.sum() == 12


@pytest.mark.parametrize(
    "bounds", [{"scale": (0.0, 1.0)}, {"scale": (0.5, 0.1)}, {"scale": (0.1, 2.0)}, {"ratio": (2, 1)}]
)
@pytest.mark.parametrize("transform", [RandomResizedCrop, RandomErasing])
def test_bounds_in_the_wrong_order_are_refused(transform: type, bounds: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(UserError, match="give the smallest value above 0, then the largest"):
        transform(**bounds)
