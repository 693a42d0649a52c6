"""Photographs of one's own, in every format and with broken files: shown, trained, tested and predicted by commands."""

import csv
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from leyden.data.cifar10 import CIFAR10DataModule

from .data.test_image_files import png_header
from .processes import Server

pytestmark = [pytest.mark.slow, pytest.mark.real_data]
CLASSES = ("airplane", "frog", "truck")
DATA = ["--data=ImageFolderDataModule", "--data.root=photos", "--data.image_size=28"]


def saved_in_some_way(image: Image.Image, number: int, path: Path) -> None:
    """Saves an image in one of twelve formats, modes, sizes and orientations."""
    size = 24 + number % 30
    image = image.resize((size, size + number % 7), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    ways: list[tuple[str, Any, dict[str, Any]]] = [
        ("png", lambda: image, {}),
        ("jpg", lambda: image, {"quality": 90}),
        ("webp", lambda: image, {"quality": 90}),
        ("bmp", lambda: image, {}),
        ("gif", lambda: image.convert("P"), {}),
        ("jpeg", lambda: image.convert("CMYK"), {}),
        ("png", lambda: image.convert("RGBA"), {}),
        ("png", lambda: image.convert("P"), {}),
        ("png", lambda: image.convert("L"), {}),
        ("png", lambda: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), {}),
        ("JPG", lambda: image.transpose(Image.Transpose.ROTATE_90), {"exif": exif}),
        ("tif", lambda: image, {}),
    ]
    suffix, make, options = ways[number % len(ways)]
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    make().save(path.with_suffix(f".{suffix}"), **options)


def write_broken(root: Path) -> list[str]:
    """Writes a file of each broken kind; their names as they are printed."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    contents = {
        "truncated.jpg": jpeg[:-300],
        "empty.png": b"",
        "text.png": b"no image",
        "bomb.png": png_header(60_000, 60_000),
        "large.png": png_header(20_000, 20_000),
        "pixel.png": buffer.getvalue(),
        "cut header.jpg": jpeg[:20],
        "zeros.jpg": b"\0" * 5000,
        "new\nline.png": b"broken",
        "größe 猫.png": b"broken",
    }
    for name, content in contents.items():
        (root / "frog" / name).write_bytes(content)
    (root / "frog" / "loop.png").symlink_to(root / "frog" / "loop.png")
    (root / "frog" / "lost.png").symlink_to(root / "nowhere.png")
    (root / "frog" / "up").symlink_to(root.absolute())
    os.mkfifo(root / "frog" / "pipe.png")
    return [*(name.replace("\n", "\\n") for name in contents), "loop.png", "lost.png", "up", "pipe.png"]


@pytest.fixture
def photos(leyden: Server, real_data: str) -> list[str]:
    """The folder `photos` with 300 images in three classes, and the names of the broken files in it."""
    data = CIFAR10DataModule(root=real_data, classes=[0, 6, 9])
    data.setup()
    for number in range(300):
        x, y = data.test_set[number]
        path = Path("photos", CLASSES[int(y)], f"{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        saved_in_some_way(Image.fromarray(x.permute(1, 2, 0).numpy()), number, path)
    return write_broken(Path("photos"))


def test_photos_are_shown_trained_tested_and_predicted(leyden: Server, photos: list[str]) -> None:
    code, text = leyden.run("fit", "--model=ConvNet", *DATA)
    assert code == 2
    for name in photos:
        assert f"broken  frog/{name}: " in text
    assert "error: 14 of 314 images in photos are broken" in text
    assert not Path("runs").exists()

    code, text = leyden.run("show", *DATA, "--data.skip_broken=true")
    assert code == 0, text
    assert Image.open("batch.png").width > 100

    fit = ["--model=ConvNet", *DATA, "--data.skip_broken=true", "--trainer.max_epochs=15", "--name=photos"]
    code, text = leyden.run("fit", *fit)
    assert code == 0, text
    score = next(line for line in text.splitlines() if line.startswith("test  "))
    assert float(score.split()[2].rstrip(",")) > 0.45  # by chance a third

    code, text = leyden.run("test", "--ckpt_path=best", "--trainer.enable_progress_bar=false")
    assert score in text

    command = ["predict", "--ckpt_path=best", "--images", "photos", "--output=photos.csv"]
    code, text = leyden.run(*command)
    assert code == 1, text
    code, text = leyden.run(*command, "--skip_broken")
    assert code == 0, text
    for name in photos:
        assert f"broken  photos/frog/{name}: " in text
    with Path("photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {str(p) for p in Path("photos").glob("*/*") if p.stem.isdecimal()}
    right = sum(row["class"] == Path(row["file"]).parent.name for row in rows)
    assert right / len(rows) > 0.45
