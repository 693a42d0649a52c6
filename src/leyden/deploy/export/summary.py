"""The printed table of `leyden export`, and export.json."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from leyden.deploy.export.read_back import BATCH_SIZES, INT8_LOSS, TOLERANCE, ReadBack
from leyden.durable import replacing

FILE = "export.json"
PACKAGES = ("leyden", "torch", "onnx", "onnxruntime")
TITLES = ("file", "size", "difference", "equal", "score", "eager", "ms at 1", "eager", "/s at 256", "eager")
WIDTHS = (17, 8, 11, 8, 8, 8, 8, 8, 11, 11)


def header() -> str:
    """Return the titles of the table: CPU milliseconds of one sample, and samples per CPU second in batches of 256."""
    return _line(TITLES)


def row(read: ReadBack) -> str:
    """Return a line of the table, of at most 100 columns."""
    digits = 2 if read.equal is not None else 4
    return _line(
        (
            read.file,
            size_in_words(read.size),
            f"{max(read.differences.values()):.1e}",
            "" if read.equal is None else f"{100 * read.equal:.2f}%",
            *(f"{score:.{digits}f}" for score in (read.score.file, read.score.eager)),
            *(f"{time:.3g}" for time in (read.latency_ms.file, read.latency_ms.eager)),
            *(f"{rate:,.0f}" for rate in (read.throughput.file, read.throughput.eager)),
        )
    )


def _line(cells: tuple[str, ...]) -> str:
    return f"{cells[0]:<{WIDTHS[0]}}" + "".join(f"{c:>{w}}" for c, w in zip(cells[1:], WIDTHS[1:], strict=True))


def size_in_words(size: int) -> str:
    """Return a number of bytes in kB or MB."""
    return f"{size / 1e3:,.0f} kB" if size < 1e6 else f"{size / 1e6:,.1f} MB"


def write_summary(files: list[dict[str, Any]], metadata: Mapping[str, str], folder: Path) -> None:
    """Write export.json.

    Args:
        files: The figures of each file.
        metadata: What each file says about itself.
        folder: Where to write it.
    """
    content = {
        "files": files,
        "batch_sizes": BATCH_SIZES,
        "limits": {"difference": TOLERANCE, "int8_points": INT8_LOSS},
        "threads_of_times": 1,
        "versions": {package: version(package) for package in PACKAGES},
        "metadata": dict(metadata),
    }
    with replacing(folder / FILE) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
