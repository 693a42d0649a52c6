"""Image files of any format become upright arrays; broken ones are refused with a reason."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leyden.data.image_files import BrokenImageError, ImageReader, printable

RGB = ImageReader(channels=3, image_size=4)
GREY = ImageReader(channels=1, image_size=4)


def corner(size: tuple[int, int] = (4, 4)) -> Image.Image:
    """A black image whose upper left quarter is red."""
    image = Image.new("RGB", size)
    image.paste((255, 0, 0), (0, 0, size[0] // 2, size[1] // 2))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG file of some bytes that claims any size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\x04IDAT\0\0\0\0"


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_lossless_formats_give_the_pixels_that_were_saved(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    expected = np.asarray(corner()).transpose(2, 0, 1)
    np.testing.assert_array_equal(RGB.decode(encoded(corner(), kind, **options)), expected)


def test_a_jpeg_differs_little_from_what_was_saved() -> None:
    large = corner((64, 64))
    pixels = ImageReader(3, 64).decode(encoded(large, "JPEG", quality=95, subsampling=0))
    assert np.abs(pixels.astype(int) - np.asarray(large).transpose(2, 0, 1)).mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_upright_whatever_its_exif_orientation(orientation: int) -> None:
    turn = {  # of the stored image relative to the upright one, by the EXIF standard
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    stored = corner() if turn is None else corner().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(
        RGB.decode(encoded(stored, "PNG", exif=exif)), np.asarray(corner()).transpose(2, 0, 1)
    )


def test_modes_become_rgb_or_grey() -> None:
    red = (255, 0, 0)
    for mode in ("RGB", "P", "CMYK"):
        kind = "TIFF" if mode == "CMYK" else "PNG"
        content = encoded(Image.new("RGB", (4, 4), red).convert(mode), kind)
        assert RGB.decode(content)[:, 0, 0].tolist() == [255, 0, 0]
        assert GREY.decode(content).shape == (1, 4, 4)
        assert int(GREY.decode(content)[0, 0, 0]) == 76  # ITU-R 601-2: 0.299 of 255
    for mode, value in (("L", 200), ("1", 1), ("LA", (200, 255))):
        expected = 255 if mode == "1" else 200
        content = encoded(Image.new(mode, (4, 4), value), "PNG")
        assert RGB.decode(content)[:, 0, 0].tolist() == [expected] * 3


def test_of_16_bits_the_upper_8_are_kept() -> None:
    values = np.array([[0, 255], [256, 65535]], dtype=np.uint16)
    for kind in ("PNG", "TIFF"):
        content = encoded(Image.fromarray(values), kind)
        assert ImageReader(1, 2).decode(content).tolist() == [[[0, 0], [1, 255]]]


def test_transparent_parts_are_put_on_white() -> None:
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 2, 4))
    pixels = RGB.decode(encoded(half, "PNG"))
    assert pixels[:, 0, 0].tolist() == [0, 0, 255]
    assert pixels[:, 0, 3].tolist() == [255, 255, 255]
    palette = encoded(Image.new("P", (4, 4), 0), "GIF", transparency=0)
    assert RGB.decode(palette)[:, 0, 0].tolist() == [255, 255, 255]


def test_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert RGB.decode(content)[:, 0, 0].tolist() == [255, 0, 0]


def test_other_shapes_are_cropped_padded_or_squashed() -> None:
    wide = Image.new("RGB", (12, 4), "red")
    wide.paste((0, 255, 0), (4, 0, 8, 4))  # the middle third
    content = encoded(wide, "PNG")
    assert (ImageReader(3, 4, "crop").decode(content) == np.array([0, 255, 0])[:, None, None]).all()
    squashed = ImageReader(3, 6, "squash").decode(content)
    np.testing.assert_array_equal(
        squashed, np.asarray(wide.resize((6, 6), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    )
    padded = ImageReader(3, 12, "pad").decode(content)
    assert not padded[:, :4].any()
    assert not padded[:, 8:].any()
    np.testing.assert_array_equal(padded[:, 4:8], np.asarray(wide).transpose(2, 0, 1))


def test_a_large_jpeg_is_about_the_same_as_decoded_in_full() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((1024, 1024), Image.Resampling.BICUBIC)
    content = encoded(image, "JPEG", quality=95)
    full = Image.open(io.BytesIO(content)).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    difference = ImageReader(3, 32).decode(content).astype(int) - np.asarray(full).transpose(2, 0, 1)
    assert np.abs(difference).max() <= 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"no image at all", "not an image"),
        (encoded(corner((64, 64)), "PNG")[:100], "damaged"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:-400], "damaged: image file is truncated"),
        (encoded(corner((64, 64)), "BMP")[:-400], "damaged"),
        (encoded(Image.effect_noise((64, 64), 50), "WEBP")[:-400], "damaged"),
        (encoded(Image.effect_noise((64, 64), 50), "GIF")[:-400], "damaged"),
        (encoded(Image.new("L", (1, 1)), "PNG"), "a single pixel"),
        (png_header(20_000, 20_000), "pixels"),
        (png_header(60_000, 60_000), "pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "not an image"),  # which would be run as a program
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "no defined range"),
    ],
)
def test_a_broken_image_is_refused_with_the_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BrokenImageError, match=reason):
        RGB.decode(content)


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    for name, reason in (
        ("folder.png", "not a file"),
        ("pipe.png", "not a file"),
        ("none.png", "No such file"),
        ("loop.png", "link"),
    ):
        with pytest.raises(BrokenImageError, match=reason):
            RGB.read(tmp_path / name)
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(BrokenImageError, match="1,073,741,824 bytes"):
        RGB.read(tmp_path / "large.png")


def test_names_are_printed_in_one_line() -> None:
    assert printable("a\nb\t\x1b[31m.png") == "a\\nb\\t\\x1b[31m.png"
    assert printable("größe 猫.png") == "größe 猫.png"
    assert printable(os.fsdecode(b"\xff.png")) == "\\udcff.png"


def test_the_processes_that_read_images_do_not_import_torch() -> None:
    code = "import sys, leyden.data.image_workers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
