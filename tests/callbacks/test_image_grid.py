"""Pictures of images: every pixel of an image is drawn as a square."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leyden.callbacks.image_grid import GAP, LINE, SIDE, TITLE, draw_images


@pytest.mark.parametrize("shape", [(7, 5, 3), (16, 16, 1), (64, 48, 3), (224, 224, 3), (1, 400, 1)])
def test_every_pixel_is_a_square_of_the_picture(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    draw_images(tmp_path / "a.png", "a title", images, ["$a", "b\nb", ""], columns=2)
    drawn = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    scale = max(1, round(SIDE / max(shape)))
    height, width = scale * shape[0], scale * shape[1]
    for i, image in enumerate(images):
        line, column = divmod(i, 2)
        left, top = GAP + column * (width + GAP), TITLE + 2 * LINE + line * (2 * LINE + height + GAP)
        expected = np.broadcast_to(image, (*shape[:2], 3)).repeat(scale, axis=0).repeat(scale, axis=1)
        assert np.array_equal(drawn[top : top + height, left : left + width], expected)
        around = [drawn[top : top + height, left - 2], drawn[top : top + height, left + width + 1]]
        assert all((side == 255).all() for side in around)
