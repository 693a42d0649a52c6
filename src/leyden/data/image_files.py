"""Read image files of any common format as upright uint8 arrays of one shape. Imported without torch."""

import stat
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Resize = Literal["crop", "squash", "pad"]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # no other decoder is called for a file
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
MAX_PIXELS = 2**27  # of one image, 400 MB as RGB: a small file can claim any size
MAX_BYTES = 2**29  # of one file
WHITE = (255, 255, 255, 255)


class BrokenImageError(ValueError):
    """An image that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class ImageReader:
    """Turn images into arrays of the shape (channels, image_size, image_size).

    The first frame is read, turned upright by its EXIF orientation. Of 16 bits per channel the upper 8 are kept.
    Transparent parts are put on white. Scaling is bilinear, with antialiasing.

    Args:
        channels: 3 for RGB, 1 for grey.
        image_size: Height and width of the array.
        resize: How an image of another shape is fitted: `crop` scales the shorter side and cuts the centre out, `pad`
            scales the longer side and adds black, `squash` scales both.
        invert: Whether to swap dark and light, before black is added.
    """

    channels: int
    image_size: int
    resize: Resize = "crop"
    invert: bool = False

    def read(self, path: str | Path) -> Pixels:
        """Return the pixels of a file, (C, H, W).

        Raises:
            BrokenImageError: It is no image, or is damaged.
        """
        return self.decode(read_file(path))

    def decode(self, content: bytes) -> Pixels:
        """Return the pixels of an image file with this content, (C, H, W).

        Raises:
            BrokenImageError: It is no image, or is damaged.
        """
        if not content:
            raise BrokenImageError("the file is empty")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, on odd metadata and on sizes below MAX_PIXELS
                image = Image.open(BytesIO(content), formats=FORMATS)
                check_size(image)
                image.draft(None, (2 * self.image_size, 2 * self.image_size))  # a JPEG is decoded at this size or above
                return self.convert(image)
        except BrokenImageError:
            raise
        except UnidentifiedImageError as error:
            raise BrokenImageError("not an image") from error
        except Image.DecompressionBombError as error:
            raise BrokenImageError("more pixels than one image may have") from error
        except Exception as error:  # decoders raise any kind for a damaged file
            raise BrokenImageError(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error

    def convert(self, image: Image.Image) -> Pixels:
        """Return the pixels of an opened image, (C, H, W).

        Raises:
            BrokenImageError: It has a single pixel, or pixels without a defined range.
        """
        image = to_8_bits(ImageOps.exif_transpose(image))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
        image = image.convert("L" if self.channels == 1 else "RGB")
        if self.invert:
            image = ImageOps.invert(image)
        size = (self.image_size, self.image_size)
        bilinear = Image.Resampling.BILINEAR
        if image.size == size:
            fitted = image
        elif self.resize == "crop":
            fitted = ImageOps.fit(image, size, bilinear)
        elif self.resize == "pad":
            fitted = ImageOps.pad(image, size, bilinear)
        else:
            fitted = image.resize(size, bilinear)
        pixels = np.asarray(fitted).reshape(*size, self.channels)  # (H, W, C)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def check_size(image: Image.Image) -> None:
    """Reject an image of a single pixel or of too many, before it is decoded.

    Raises:
        BrokenImageError: It has another number of pixels.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenImageError(f"{width} x {height} pixels, more than one image may have ({MAX_PIXELS:,})")
    if width * height == 1:
        raise BrokenImageError("a single pixel")


def to_8_bits(image: Image.Image) -> Image.Image:
    """Return an image with 8 bits per channel, by the upper 8 of 16.

    Raises:
        BrokenImageError: Its pixels are real numbers, or integers above 16 bits.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() >= 2**16:
        raise BrokenImageError(f"pixels of mode {image.mode}, which have no defined range: save them with 8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def read_file(path: str | Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        BrokenImageError: It cannot be read, or is too large for one image.
    """
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise BrokenImageError("not a file")  # a pipe, which would block
        if status.st_size > MAX_BYTES:
            raise BrokenImageError(f"{status.st_size:,} bytes, more than one image may have ({MAX_BYTES:,})")
        return Path(path).read_bytes()
    except OSError as error:
        raise BrokenImageError(f"cannot be read: {error.strerror or error}") from error


def printable(name: str) -> str:
    """Return a file's name for one line of a message, with escapes for what a terminal cannot show."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in name)
