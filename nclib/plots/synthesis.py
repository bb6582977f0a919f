"""Our intervals over the digitised published points, one panel a quantity."""

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from nclib.plots.style import COLOURS, mean_and_half


def beside(ours: pd.DataFrame, published: pd.Series, *, log: bool = False) -> pd.DataFrame:
    """One row for each published value: it, the mean of ours and the ends of its 95 % t-interval, and n.

    ours: seeds by the index of `published`. With `log` mean and interval are of the logarithm. What one of the
    two lacks is left out.
    """
    shared = [name for name in published.index if name in ours.columns]
    values = ours[shared].dropna(axis="columns").astype(float)
    z = values.map(math.log) if log else values
    mean, half = mean_and_half(z)
    frame = pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half})
    frame = frame.map(math.exp) if log else frame
    return frame.assign(published=published[list(frame.index)], n=len(z))


def share_inside(points: pd.DataFrame) -> float:
    """The share of published values that lie within our interval."""
    return float(((points.low <= points.published) & (points.published <= points.high)).mean())


def agreement(groups: dict[str, pd.DataFrame], ax: Axes, *, title: str, log: bool = False) -> Axes:
    """Ours against published for several groups of points: mean, 95 % t-interval over seeds, and the diagonal."""
    looks = zip(list(COLOURS.values()), "os^D", strict=False)
    every = pd.concat(groups.values())
    for (name, points), (colour, marker) in zip(groups.items(), looks, strict=False):
        error = [points["mean"] - points.low, points.high - points["mean"]]
        ax.errorbar(
            points.published, points["mean"], error, fmt=marker, color=colour, ms=4, elinewidth=0.9,
            label=f"{name} (n = {points.n.min()})",
        )  # fmt: skip
    ends = [every[["published", "mean"]].min().min(), every[["published", "mean"]].max().max()]
    ax.plot(ends, ends, color=COLOURS["black"], linewidth=1, label="ours equal to published", zorder=0)
    room = (ends[1] - ends[0]) * 0.25
    low = ends[0] / 1.4 if log else max(0.0, ends[0] - room) if ends[0] >= 0 else ends[0] - room
    ax.set(
        title=f"{title}\n{share_inside(every):.0%} of {len(every)} within our interval", xlabel="published",
        ylabel="ours", ylim=(low, ends[1] * 1.4 if log else ends[1] + room),
    )  # fmt: skip
    if log:
        ax.set(xscale="log", yscale="log")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
    return ax
