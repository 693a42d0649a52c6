"""A small made-up run, and what reads the page about it."""

import struct
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from leyden.runs.report.command import main

METRICS = """epoch,lr,step,test/acc,test/loss,train/loss,train/loss_step,val/acc,val/loss
0,0.1,4,,,,2.5,,
0,,9,,,,,0.25,2.0312345678
0,,9,,,2.25,,,
1,0.05,14,,,,1.75,,
1,,19,,,,,0.75,1.0987654321
1,,19,,,1.5,,,
2,,29,,,,,0.7,1.5
2,,29,,,1.25,,,
3,,30,0.625,1.375,,,,
"""
CONFUSION = "true \\ predicted,cat,dog\ncat,3,1\ndog,2,4\n"
VOID = {"meta", "img", "wbr"}  # elements without an end


def png(width: int = 2, height: int = 2) -> bytes:
    """A grey picture, written by hand."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\x80" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def make_run(folder: Path, lr: float = 0.1, **top: Any) -> Path:
    """A run of three epochs, with all that a run of a classifier leaves."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").write_bytes(bytes(100))
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": lr, "momentum": 0.0}}
    model = {"class_path": "leyden.models.conv_net.ConvNet", "init_args": {"dropout": 0.125, "optimizer": optimizer}}
    checkpoint = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"monitor": "val/loss"}}
    config = {"seed_everything": 7, "trainer": {"max_epochs": 3, "callbacks": [checkpoint]}, "model": model} | top
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(METRICS)
    (folder / "confusion.csv").write_text(CONFUSION)
    for name in ("confusion", "mistakes", "samples"):
        (folder / f"{name}.png").write_bytes(png())
    return folder


class Page(HTMLParser):
    """The elements of a page; fails if one is not closed.

    Attributes:
        elements: (name, attributes) of each.
        text: What a reader sees.
        tables: {caption: rows of cells}.
        values: The numbers in `<data>`, as they are written in the source.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        if "script" in self._open or "style" in self._open:
            return
        self.text += data
        if "caption" in self._open:
            self._caption += data
        elif self._open and {"td", "th"} & {*self._open}:
            self._rows[-1][-1] += data.strip()


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Page]:
    """Writes the page about some runs, and reads it back."""

    def write(*runs: Path) -> Page:
        file = tmp_path / "report.html"
        assert main([*map(str, runs), "--output", str(file)]) == 0
        return Page(file.read_text(encoding="utf-8"))

    return write
