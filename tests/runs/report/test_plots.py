"""What the plots hold, read back from bokeh's own model of them."""

import json
import re
from html import unescape
from typing import Any

import numpy as np
import pytest
from bokeh.core.serialization import Deserializer

from leyden.runs.report.contents import Curves
from leyden.runs.report.plots import MAX_POINTS, draw_plots, panels, thinned

COLOURS = ["#0072B2", "#D55E00"]


def sources(script: str) -> list[dict[str, Any]]:
    """The columns of each data source in a script of bokeh."""
    (text,) = re.findall(r"const docs_json = '(.*?)';\n", script, re.DOTALL)
    (document,) = json.loads(unescape(text.replace("\\\\", "\\"))).values()
    found: list[dict[str, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if node.get("name") == "ColumnDataSource":
                columns = Deserializer().decode(node["attributes"]["data"])
                found.append({name: np.asarray(column).tolist() for name, column in columns.items()})
            for part in node.values():
                walk(part)
        elif isinstance(node, list):
            for part in node:
                walk(part)

    walk(document)
    return found


def test_each_curve_holds_its_points_and_the_tooltip_those_of_all() -> None:
    one = Curves({"val/loss": ([0, 1, 2], [3.0, 2.0, 1.0]), "train/loss": ([0, 1, 2], [4.0, 3.0, 2.0])}, {})
    two = Curves({"val/loss": ([1], [0.5])}, {})
    drawn = draw_plots([one, two], COLOURS)
    assert [plot.title for plot in drawn.plots] == ["loss"]
    found = sources(drawn.script)
    assert {"x": [0, 1, 2], "y": [3.0, 2.0, 1.0]} in found
    assert {"x": [0, 1, 2], "y": [4.0, 3.0, 2.0]} in found
    assert {"x": [1], "y": [0.5]} in found
    (pointed,) = (columns for columns in found if "v0" in columns)
    assert [pointed[name] for name in ("v0", "v1", "v2")] == [["3", "2", "1"], ["4", "3", "2"], ["-", "0.5", "-"]]


def test_the_loss_comes_first_and_what_has_no_split_is_drawn_by_step() -> None:
    series = ([0.0], [1.0])
    run = Curves({"val/acc": series, "train/loss": series}, {"lr": series, "train/loss_step": series})
    assert panels([run]) == [
        ("loss", "epoch", ["val/loss", "train/loss"]),
        ("acc", "epoch", ["val/acc", "train/acc"]),
        ("train/loss", "step", ["train/loss_step"]),
        ("lr", "step", ["lr"]),
    ]


@pytest.mark.parametrize(
    ("values", "is_log"),
    [([100.0, 0.5], True), ([10.0, 0.5], False), ([100.0, 0.0], False), ([float("nan")] * 2, False)],
)
def test_a_loss_of_several_magnitudes_has_a_logarithmic_axis(values: list[float], is_log: bool) -> None:
    (plot,) = draw_plots([Curves({"val/loss": ([0, 1], values)}, {})], COLOURS).plots
    assert plot.is_log == is_log


@pytest.mark.parametrize(("length", "count"), [(1, 5), (5, 5), (6, 5), (1001, 10), (3, 0)])
def test_a_long_curve_keeps_evenly_spaced_points_and_its_last(length: int, count: int) -> None:
    x, y = thinned((list(range(length)), [2.0 * i for i in range(length)]), count)
    assert len(x) <= max(count, 2)
    assert x[-1] == length - 1
    assert len(set(np.diff(x))) <= 1
    assert y == [2 * i for i in x]
    assert length > count or len(x) == length


def test_the_points_of_all_curves_have_a_limit() -> None:
    steps = [float(step) for step in range(10_000)]
    runs = [Curves({}, {"lr": (steps, steps), "train/loss_step": (steps, steps)}) for _ in range(5)]
    found = sources(draw_plots(runs, COLOURS).script)
    assert MAX_POINTS / 2 < sum(len(columns["x"]) for columns in found if "v0" not in columns) <= MAX_POINTS


def test_without_a_curve_there_is_no_script() -> None:
    drawn = draw_plots([Curves({}, {})], COLOURS)
    assert (drawn.plots, drawn.library, drawn.script) == ([], "", "")
