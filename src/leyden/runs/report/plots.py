"""Draw the curves of the page with bokeh: values appear on pointing, colours follow the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.models import (
    BasicTicker,
    BasicTickFormatter,
    ColumnDataSource,
    CrosshairTool,
    DataRange1d,
    HoverTool,
    NumeralTickFormatter,
)
from bokeh.models.renderers import DataRenderer
from bokeh.plotting import figure
from bokeh.resources import Resources
from jinja2 import Template

from leyden.runs.report.contents import Curves, Series

MAX_POINTS = 20_000  # of all curves, 40 bytes each; of a longer curve, evenly spaced points are drawn
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle")  # for runs beyond the colours
FONT = "system-ui, sans-serif"
LOG_RATIO = 100  # between the largest and the smallest value of a loss, from which its axis is logarithmic
# the colours are those of the page, which reach into the shadow DOM
TOOLTIP = Template(
    """<div class="tip" style="margin: -5px; padding: 6px 10px; font: 13px/1.5 system-ui, sans-serif;
color: var(--text); background: var(--card)"><div style="color: var(--muted)">{{ unit }} @x{0,0}</div>
{% for name, colour in rows %}<div><span style="color: {{ colour }}">&#9632;</span> {{ name }}
<b>@{{ "{v%d}" | format(loop.index0) }}</b></div>{% endfor %}</div>""",
    autoescape=True,
)


@dataclass
class Plot:
    """A plot: its heading, what its x axis counts, and the element that bokeh fills."""

    title: str
    unit: str
    is_log: bool
    element: str


@dataclass
class Plots:
    """The plots of a page, and the two scripts that draw them: bokeh itself, and their data."""

    plots: list[Plot]
    library: str
    script: str


def draw_plots(runs: Sequence[Curves], colours: Sequence[str]) -> Plots:
    """Draw a panel for each metric; training is dashed, validation solid.

    Args:
        runs: The curves of each run.
        colours: The colours of the runs, from the first on again if there are more runs. For one run, the first two
            are those of validation and training.
    """
    plots, figures = [], []
    points = MAX_POINTS // max(1, sum(len(run.by_epoch) + len(run.by_step) for run in runs))
    for title, unit, names in panels(runs):
        drawn = [
            (number, name, series)
            for number, run in enumerate(runs)
            for name in names
            if (series := (run.by_epoch if unit == "epoch" else run.by_step).get(name))
        ]
        drawn = [(number, name, thinned(series, points)) for number, name, series in drawn]
        values = [value for _, _, series in drawn for value in series[1] if math.isfinite(value)]
        is_log = title == "loss" and bool(values) and min(values) > 0 and max(values) / min(values) > LOG_RATIO
        figures.append(draw_plot(unit, drawn, colours, len(runs), is_log))
        plots.append(Plot(title, unit, is_log, ""))
    if not plots:
        return Plots([], "", "")
    script, elements = components(tuple(figures), wrap_script=False)
    for plot, element in zip(plots, elements, strict=True):
        plot.element = element
    return Plots(plots, "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw), script)


def draw_plot(
    unit: str, drawn: Sequence[tuple[int, str, Series]], colours: Sequence[str], count: int, is_log: bool
) -> figure:
    """Draw a panel.

    Args:
        unit: What the x axis counts.
        drawn: The number of the run, the name and the series of each curve.
        colours: The colours of the runs.
        count: Number of runs.
        is_log: Whether the y axis is logarithmic.
    """
    plot = figure(
        height=260,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        x_axis_label=unit,
        y_axis_type="log" if is_log else "linear",
        outline_line_color=None,
    )
    rows = []
    points: dict[float, dict[str, float]] = {}  # {x: {column of the tooltip: y}}
    for index, (number, name, series) in enumerate(drawn):
        is_val = name.startswith("val/")
        colour = colours[number % len(colours)] if count > 1 else colours[0 if is_val or unit == "step" else 1]
        rows.append((f"{number + 1}: {name}" if count > 1 else name, colour))
        for at, value in zip(*series, strict=True):
            points.setdefault(at, {})[f"v{index}"] = value
        curve = ColumnDataSource({"x": np.array(series[0]), "y": np.array(series[1])})  # written as compact bytes
        dash = "solid" if is_val or unit == "step" else "dashed"
        plot.line("x", "y", source=curve, color=colour, line_width=2, line_dash=dash)
        size = 5 if unit == "epoch" or len(series[0]) == 1 else 3
        marker = MARKERS[number // len(colours) % len(MARKERS)]
        plot.scatter("x", "y", source=curve, color=colour, size=size, marker=marker)
    # one tooltip for all curves: that of an invisible curve, which has a point wherever one of them has
    xs = sorted(points)
    columns: dict[str, Any] = {"x": np.array(xs), "y": np.array([next(iter(points[x].values())) for x in xs])}
    for index in range(len(rows)):
        columns[f"v{index}"] = [f"{points[x][f'v{index}']:.5g}" if f"v{index}" in points[x] else "-" for x in xs]
    source = ColumnDataSource(columns)
    pointed: list[DataRenderer]
    if len(xs) > 1:
        pointed = [plot.line("x", "y", source=source, alpha=0.0)]
    else:  # a line of one point cannot be hit
        pointed = [plot.scatter("x", "y", source=source, alpha=0.0, size=40)]
    tooltip = TOOLTIP.render(unit=unit, rows=rows)
    plot.add_tools(HoverTool(renderers=pointed, tooltips=tooltip, mode="vline", line_policy="nearest"))
    plot.add_tools(CrosshairTool(dimensions="height", line_color="grey", line_alpha=0.6))
    plot.xaxis.ticker = BasicTicker(min_interval=1)  # no half epochs
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    if not is_log:
        plot.yaxis.formatter = BasicTickFormatter(power_limit_low=-5)  # 0.003 rather than 3.000e-3
        values = {value for row in points.values() for value in row.values()}
        if len(values) == 1:
            plot.y_range = DataRange1d(default_span=abs(values.pop()) or 1)
    for text in plot.axis:
        text.major_label_text_font = text.axis_label_text_font = FONT
        text.major_label_text_font_size = text.axis_label_text_font_size = "12px"
        text.axis_label_text_font_style = "normal"
        text.minor_tick_line_color = text.major_tick_line_color = None
    plot.xgrid.visible = False
    return plot


def thinned(series: Series, count: int) -> Series:
    """Return about `count` points of a curve at most, evenly spaced, with its last one."""
    x, y = series
    stride = -(-len(x) // max(count, 2))
    picked = range(len(x) - 1, -1, -stride)[::-1]
    return [x[i] for i in picked], [y[i] for i in picked]


def panels(runs: Sequence[Curves]) -> list[tuple[str, str, list[str]]]:
    """Return the title, the unit of the x axis and the curves of each panel: the loss first, then scores, then rest."""
    metrics = {name.partition("/")[2] for run in runs for name in run.by_epoch}
    steps = {name for run in runs for name in run.by_step}
    scores = sorted(metrics, key=lambda name: (name != "loss", name))
    rest = sorted(steps, key=lambda name: (not name.endswith("loss_step"), name))
    return [(name, "epoch", [f"val/{name}", f"train/{name}"]) for name in scores] + [
        (name.removesuffix("_step"), "step", [name]) for name in rest
    ]
