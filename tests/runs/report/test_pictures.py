"""The pictures of a page share its room."""

import base64
from pathlib import Path

from leyden.runs.report.pictures import ROOM, PictureReader

from .conftest import png


def test_a_picture_is_embedded_unchanged(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (picture,) = PictureReader().read(tmp_path / "a.png", "Title", "what it shows")
    kind, _, content = picture.source.partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content, validate=True) == png()
    assert PictureReader().read(tmp_path / "b.png", "Title", "what it shows") == []


def test_pictures_are_embedded_until_the_room_is_used_up_and_named_after_that(tmp_path: Path) -> None:
    (tmp_path / "big.png").write_bytes(bytes(ROOM // 3))
    (tmp_path / "small.png").write_bytes(bytes(30))
    reader = PictureReader()
    found = [reader.read(tmp_path / f"{name}.png", "", "")[0] for name in ("big", "big", "big", "small")]
    assert [bool(picture.source) for picture in found] == [True, True, False, True]
    assert sum(len(picture.source) for picture in found) <= ROOM + 4 * len("data:image/png;base64,")
    assert found[2].size == ROOM // 3
