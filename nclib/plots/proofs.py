"""Figures of the proofs: a bound with its tangents, and families of functions of one number with their minima.

Everything is handed in as plain frames: what computes it needs torch, and nothing here may.
"""

import itertools

import pandas as pd
from matplotlib.axes import Axes

from nclib.plots.style import COLOURS
from nclib.plots.unconstrained import THEORY


def tangents(curve: pd.DataFrame, samples: pd.DataFrame, ax: Axes) -> Axes:
    """A convex bound over the mean margin (the frame's index), its tangents, and samples above it.

    The column "bound" is the bound, all others are tangents. `samples` has a row for each
    sample, with the columns margin and loss; those in the panel are counted in the legend.
    """
    low, high = curve.index.min(), curve.index.max()
    top = 1.1 * curve["bound"].max()
    n = int((samples.margin.between(low, high) & samples.loss.between(0, top)).sum())
    label = f"samples (n = {n})" if n == len(samples) else f"samples (n = {n} of {len(samples)})"
    ax.plot(samples.margin, samples.loss, ".", color=COLOURS["grey"], alpha=0.35, markersize=3, label=label)
    for name, dashes in zip(curve.columns.drop("bound"), itertools.cycle((":", "-.", "--"))):
        ax.plot(curve.index, curve[name], dashes, color=COLOURS["blue"], linewidth=1.1, label=name)
    ax.plot(curve.index, curve["bound"], color=COLOURS["black"], label="bound φ")
    ax.set_xlim(low, high)
    ax.set_ylim(0, top)
    ax.set_xlabel("mean margin m")
    ax.set_ylabel("cross-entropy (nats)")
    return ax


def family(curves: pd.DataFrame, lowest: pd.DataFrame, ax: Axes, *, x: str, y: str) -> Axes:
    """Functions of one number (the frame's index), one line a column, with a marker at the lowest point of each.

    `lowest` has a row for each marker: columns name (the curve's), x and y. Markers in one place are nested, that of
    the first curve outermost. The two axis labels are `x` and `y`.
    """
    places = list(zip(lowest.x.round(6), lowest.y.round(6), strict=True))
    order = lowest.name.map(list(curves.columns).index)
    later = [
        sum(p == place and o > own for p, o in zip(places, order, strict=True))
        for place, own in zip(places, order, strict=True)
    ]
    lowest = lowest.assign(size=[6 + 5 * n for n in later])
    styles = zip(curves.columns, itertools.cycle(("blue", "green", "amber", "pink")), strict=False)
    for name, colour in styles:
        ax.plot(curves.index, curves[name], color=COLOURS[colour], label=name)
        for at in lowest[lowest.name == name].itertuples():
            ax.plot(at.x, at.y, "o", color=COLOURS[colour], markersize=at.size, clip_on=False, zorder=4)
    ax.set_xlim(curves.index.min(), curves.index.max())
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    return ax


def over_time(
    curves: pd.DataFrame, ax: Axes, *, y: str, level: float | None = None, log: bool = False
) -> Axes:
    """What a descent does over time (the frame's index) on a log axis, one line a column.

    A `level` that theory names is a dashed line. `y` is the axis label, `log` makes that axis logarithmic.
    """
    for name, colour in zip(
        curves.columns, itertools.cycle(("blue", "green", "amber", "pink")), strict=False
    ):
        ax.plot(curves.index, curves[name], color=COLOURS[colour], label=name)
    if level is not None:
        ax.axhline(level, label="bound", **THEORY)
    ax.set_xscale("log")
    if log:
        ax.set_yscale("log")
    ax.set_xlabel("time")
    ax.set_ylabel(y)
    return ax
