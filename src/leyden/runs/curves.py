"""Draw the learning curves of one or several runs from their `metrics.csv`; needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leyden.runs.metrics import read_metrics, run_title

PALETTE = [  # distinct for colour-blind readers too (Okabe and Ito, 2008)
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
]


def draw_curves(file: Path, runs: Sequence[Path], labels: Sequence[str] = ()) -> bool:
    """Draw a panel for each validation metric over the epochs: train dashed, val solid.

    Args:
        file: The picture to write.
        runs: Directories of the runs.
        labels: Name of each run; runs then have different colours. Without names, for one run, the splits have.

    Returns:
        Whether there was anything to draw: False if no run has a validation metric.
    """
    from matplotlib.figure import Figure  # takes 0.3 s, so only when there is something to draw
    from matplotlib.lines import Line2D

    curves = [read_metrics(run / "metrics.csv") for run in runs]
    names = {name.partition("/")[2] for curve in curves for name in curve if name.startswith("val/")}
    metrics = sorted(names, key=lambda name: (name != "loss", name))
    if not metrics:
        return False
    looks: list[dict[str, Any]]  # of the runs
    styles: dict[str, dict[str, Any]] = {"train": {"linestyle": "--"}, "val": {"linestyle": "-"}}
    if labels:
        # runs beyond the palette's length reuse its colours with another marker
        looks = [
            {"color": PALETTE[i % len(PALETTE)], "marker": "o^sDv"[i // len(PALETTE) % 5], "markersize": 3}
            for i in range(len(runs))
        ]
        legend = [Line2D([], [], color="black", label=split, **style) for split, style in styles.items()]
        legend += [Line2D([], [], label=label, **look) for label, look in zip(labels, looks, strict=True)]
    else:
        looks = [{"marker": "o", "markersize": 3}]
        styles["train"]["color"], styles["val"]["color"] = PALETTE[1], PALETTE[0]
        legend = [Line2D([], [], label=split, **style, **looks[0]) for split, style in styles.items()]

    width = 5 * len(metrics)
    figure = Figure(figsize=(max(width, 7), 4 + 0.25 * len(runs)) if labels else (width, 4), layout="constrained")
    if not labels:
        figure.suptitle(run_title(runs[0]))
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for curve, look in zip(curves, looks, strict=True):
            for split, style in styles.items():
                if f"{split}/{metric}" in curve:
                    axes.plot(*curve[f"{split}/{metric}"], **style, **look)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    columns = 1 if max(map(len, labels), default=0) > 40 else 2
    figure.legend(handles=legend, loc="outside lower center", ncols=columns, fontsize=8)
    figure.savefig(file, dpi=120)
    return True
