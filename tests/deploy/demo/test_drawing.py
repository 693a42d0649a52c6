import base64
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from leyden.data.image_files import BrokenImageError, ImageReader
from leyden.deploy.demo.drawing import MAX_DRAWING, PNG, SIDE, from_url, paper_and_ink, pen_width, to_url

from ..stored import pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_the_same_after_its_way_to_the_page_and_back(channels: int) -> None:
    image = pixels(1, (channels, 9, 9))[0]
    assert np.array_equal(ImageReader(channels, 9).decode(from_url(to_url(image))), image)


@pytest.mark.parametrize(
    "url",
    [None, 7, {}, "", "/etc/passwd", "data:image/svg+xml;base64,AA==", f"{PNG}no base64", PNG + "A" * MAX_DRAWING],
)
def test_what_is_no_drawing_is_refused(url: Any) -> None:
    with pytest.raises(BrokenImageError, match="not a drawing"):
        from_url(url)


def test_a_drawing_that_is_no_image_is_refused_by_the_reader() -> None:
    with pytest.raises(BrokenImageError, match="not an image"):
        ImageReader(1, 9).decode(from_url(PNG + base64.b64encode(b"hello").decode()))


@pytest.mark.parametrize(("border", "paper"), [(0, "#000000"), (60, "#000000"), (250, "#ffffff")])
def test_the_canvas_of_grey_images_has_the_colour_of_their_border(border: int, paper: str) -> None:
    image = np.full((1, 9, 9), border, np.uint8)
    image[:, 3:6, 3:6] = 255 - border
    assert paper_and_ink([image] * 3, 1)[0] == paper


def test_without_examples_grey_is_light_on_dark_and_colour_dark_on_white() -> None:
    assert paper_and_ink([], 1) == ("#000000", "#ffffff")
    assert paper_and_ink([], 3) == ("#ffffff", "#000000")


@pytest.mark.parametrize("paper", ["#000000", "#ffffff"])
@pytest.mark.parametrize("width", [4, 8])
def test_the_pen_is_as_wide_as_the_lines_of_the_data(width: int, paper: str) -> None:
    image = Image.new("L", (50, 50), paper)
    ImageDraw.Draw(image).line([(5, 25), (45, 25)], "white" if paper == "#000000" else "black", width)
    image.paste(image.rotate(90), mask=image.rotate(90).point(lambda v: 255 * (v != image.getpixel((0, 0)))))
    found = pen_width([np.asarray(image)[None]], paper)
    assert found == pytest.approx(SIDE * width / 50, rel=0.25)  # the length of the lines is a guess


def test_without_grey_examples_the_pen_has_a_width_for_drawing() -> None:
    assert pen_width([], "#000000") == pen_width([pixels(1)[0]], "#ffffff") == SIDE // 12
