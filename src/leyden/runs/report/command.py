"""Write the page: read the runs, render the template, replace the file."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from leyden import __version__
from leyden.durable import replacing
from leyden.errors import UserError
from leyden.runs.compare import differences, labels_of
from leyden.runs.curves import PALETTE
from leyden.runs.report.contents import MAX_ROWS, read_contents
from leyden.runs.report.pictures import PictureReader
from leyden.runs.stored_config import read_configs

COLOURS = PALETTE[:-1]  # black is not visible on a dark page


def render(paths: list[Path]) -> str:
    """Return the page of these runs as HTML.

    Args:
        paths: Directories of the runs, as the commands on the page are to name them.

    Raises:
        UserError: None of them is a run that has logged something, or a file in them cannot be read or shown.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from leyden.runs.report.plots import draw_plots  # imports bokeh

    configs = read_configs(paths)
    pictures = PictureReader()
    runs = [read_contents(path, config, pictures, MAX_ROWS // len(configs)) for path, config in configs.items()]
    rows = differences(list(configs.values()))
    plots = draw_plots([run.curves for run in runs], COLOURS)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    values: dict[str, Any] = {
        "runs": runs,
        "labels": labels_of(rows, [run.title for run in runs]),
        "colours": [COLOURS[number % len(COLOURS)] for number in range(len(runs))],
        "train_colour": COLOURS[1],
        "differences": rows,
        "score_names": sorted({name: None for run in runs for name in run.scores}, key=_place),
        "plots": plots,
        "version": __version__,
    }
    return environment.get_template("page.html").render(values)


def _place(score: str) -> int:
    """Return the place of a score's kind in a table: what counts first, as a phone shows only so much."""
    return ["test", "val"].index(split) if (split := score.partition("/")[0]) in ("test", "val") else 2


def main(args: list[str]) -> int:
    """Write the page and return the exit code.

    Args:
        args: The arguments after `leyden report`.
    """
    parser = argparse.ArgumentParser(prog="leyden report", description=__doc__)
    parser.description = "Write a page about a run, or one that compares several; it opens from disk in any browser."
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's directory")
    parser.add_argument("--output", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    options = parser.parse_args(args)
    missing = [name for name in ("bokeh", "jinja2") if find_spec(name) is None]
    try:
        if missing:
            raise UserError(f'leyden report needs {" and ".join(missing)}: pip install "leyden[report]"')
        page = render(options.runs)
        with replacing(options.output) as part:
            part.write_text(page, encoding="utf-8")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: cannot write {options.output} ({error.strerror})", file=sys.stderr)
        return 2
    print(f"report  {options.output}  {len(page) / 1e6:.1f} MB")
    return 0
