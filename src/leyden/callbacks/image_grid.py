"""A picture of images, each with a text above it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

SIDE = 150  # of a drawn image, about, in pixels of the picture
GAP, TITLE, LINE = 16, 44, 18  # between two images, for the title, for a line of text
DPI = 128  # a power of two, so that inches times DPI is exact


def pixels(images: Tensor, data: Any) -> Any:
    """Convert network inputs (n, C, H, W) to uint8 pixels (n, H, W, C).

    Normalising is undone by the tensors `mean` and `std` of the DataModule; without them the range is stretched to
    [0, 255].
    """
    mean, std = getattr(data, "mean", None), getattr(data, "std", None)
    if isinstance(mean, Tensor) and isinstance(std, Tensor):
        images = images * std.cpu() + mean.cpu()
    else:
        images = (images - images.min()) / (images.max() - images.min()).clamp(min=1e-12)
    return (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def draw_images(path: Path, title: str, images: Sequence[Any], texts: Sequence[str], columns: int) -> None:
    """Draw images line by line. Each of their pixels is a square of whole pixels of the picture.

    Args:
        path: The picture.
        title: Its title.
        images: Images of one size, uint8 (H, W, C).
        texts: What to write above each image; it may have several lines.
        columns: Images in a line.
    """
    from matplotlib.figure import Figure  # takes 0.3 s, so only when there is something to draw

    height, width = images[0].shape[:2] if len(images) else (1, 1)
    scale = max(1, round(SIDE / max(height, width)))
    height, width = scale * height, scale * width
    text_height = LINE * max((text.count("\n") + 1 for text in texts), default=0)
    lines = -(-len(images) // columns)
    total = (columns * (width + GAP) + GAP, TITLE + lines * (text_height + height + GAP))
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    # one for all images, in pixels: with one for each it would take four times as long
    axes = figure.add_axes((0, 0, 1, 1))
    axes.text(total[0] / 2, TITLE / 2, title, ha="center", va="center", parse_math=False)
    for i, (image, text) in enumerate(zip(images, texts, strict=True)):
        line, column = divmod(i, columns)
        left = GAP + column * (width + GAP)
        top = TITLE + line * (text_height + height + GAP) + text_height
        extent = (left, left + width, top + height, top)
        rgb = image.repeat(3, axis=2) if image.shape[2] == 1 else image  # exact, other than by a colour map
        axes.imshow(rgb, interpolation="nearest", extent=extent)
        axes.text(left + width / 2, top - 2, text, ha="center", va="bottom", fontsize=8, parse_math=False)
    axes.set(xlim=(0, total[0]), ylim=(total[1], 0), aspect="auto")
    axes.axis("off")
    figure.savefig(path, dpi=DPI)
