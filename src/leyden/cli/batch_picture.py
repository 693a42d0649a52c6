"""The picture of a training batch, with the label above each image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor

from leyden.callbacks.image_grid import draw_images, pixels
from leyden.data.image_files import printable
from leyden.errors import UserError

COLUMNS = 8
MAX_NAME = 18  # characters of the name of a class above an image
MAX_NUMBERS = 4  # of a target above an image


def check_picture(path: Path, count: int) -> None:
    """Refuse a picture that could not be drawn.

    Raises:
        UserError: It would have no image, or it cannot be written under this name.
    """
    if count < 1:
        raise UserError(f"--count is {count}, but must be 1 or more")
    if path.suffix.lower() != ".png":
        raise UserError(f"--output {path}: the picture is a PNG file, so its name must end in .png")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"--output {path} is a folder: name a file")


def draw_batch(path: Path, batch: Any, data: LightningDataModule, names: Sequence[str], count: int) -> str:
    """Draw the images of a batch, and return a line that says where they are or why there are none.

    Args:
        path: The picture.
        batch: Normally inputs (B, ...) and targets (B, ...).
        data: The data.
        names: Names of the classes.
        count: Maximum number of images.
    """
    parts = batch if isinstance(batch, tuple | list) else [batch]
    if not all(isinstance(part, Tensor) for part in parts) or len(parts) != 2:
        return f"batch  {type(batch).__name__} instead of two tensors, so there is no picture"
    x, y = (part.detach().cpu() for part in parts)
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        described = ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (x, y))
        return f"batch  {described}: no images, so there is no picture"
    existed = path.exists()
    shown = min(count, len(x))
    what = f"{shown} of {len(x)} images of the first training batch"
    texts = label_texts(y[:shown], names)
    draw_images(path, f"{type(data).__name__}: {what}", pixels(x[:shown], data), texts, COLUMNS)
    return f"file  {path}: {what}{', in place of an earlier file' if existed else ''}"


def label_texts(y: Tensor, names: Sequence[str]) -> list[str]:
    """Return the text above each image: its class, the classes of a mixture with their shares, or numbers.

    Args:
        y: Labels (B,), probabilities of the classes (B, C), or other targets (B, ...).
        names: Names of the C classes.
    """
    short = [name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..." for name in map(printable, names)]
    if y.ndim == 1 and not y.is_floating_point():
        return [short[i] if 0 <= i < len(short) else str(i) for i in y.tolist()]
    if y.ndim == 2 and y.shape[1] == len(short):
        return [_mixture(list(zip(short, row, strict=True))) for row in y.tolist()]
    return [", ".join(f"{value:.3g}" for value in row[:MAX_NUMBERS]) for row in y.reshape(len(y), -1).tolist()]


def _mixture(shares: list[tuple[str, float]]) -> str:
    """Return the two classes with the largest shares, one in a line; a class alone without its share."""
    largest = sorted(shares, key=lambda item: -item[1])[:2]
    named = [f"{name} {share:.2f}" for name, share in largest if share >= 0.005]
    return "\n".join(named) if len(named) > 1 else largest[0][0]
