"""The options of `leyden predict --images`, and the files that they name."""

import argparse
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from leyden.data.image_search import find_images
from leyden.deploy.option_parser import OptionParser
from leyden.errors import UserError
from leyden.runs.directory import RUNS


def read_options(args: list[str]) -> argparse.Namespace:
    """Read what follows `leyden predict`; `leyden.cli.help` explains the options.

    Raises:
        UserError: An option is unknown, wrong or missing.
    """
    parser = OptionParser("leyden predict --images")
    parser.add_argument("--images", nargs="+", action="extend")
    parser.add_argument("--invert", action="store_true")
    parser.add_argument("--top_k", type=int)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--output")
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--skip_broken", action="store_true")
    parser.add_argument("--accelerator", choices=["auto", "cpu", "gpu"], default="auto")
    parser.add_argument("--name")
    parser.add_argument("--trainer.default_root_dir", dest="default_root_dir", default=RUNS)
    options = parser.read(args)
    for name in ("top_k", "batch_size"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UserError(f"--{name} is {value}, but must be 1 or more")
    return options


@dataclass
class ImageNames:
    """The images that a command names.

    Args:
        names: Their paths.
        broken: {path: why it cannot be read} of what the search has found.
    """

    names: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


def image_names(paths: list[str]) -> ImageNames:
    """Return the files that paths name: a file itself, a folder those below it, `-` those in a list on stdin.

    Raises:
        UserError: There is no such path, or no image at all.
    """
    images = ImageNames()
    for path in paths:
        if path == "-":
            images.names += [os.fsdecode(line.removesuffix(b"\n")) for line in sys.stdin.buffer if line.strip()]
        elif Path(path).is_dir():
            try:
                found = find_images(Path(path))
            except OSError as error:
                raise UserError(f"cannot read the folder {path} ({error.strerror})") from error
            images.names += [os.path.join(path, name) for name in found.files]  # noqa: PTH118, as `Path` drops `./`
            images.broken |= {os.path.join(path, name): reason for name, reason in found.broken.items()}  # noqa: PTH118
        elif os.path.lexists(path):
            images.names.append(path)
        else:
            raise UserError(f"--images: there is no file or folder {path}")
    if not images.names and not images.broken:
        raise UserError(f"--images: no image in {' '.join(paths)}; in folders they are recognised by .jpg, .png, ...")
    return images
