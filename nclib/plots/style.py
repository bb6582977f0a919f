"""One look for all figures: colour-blind safe, opaque in light and dark, the same bytes on every run."""

import math

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy import stats

COLOURS = {
    "blue": "#0072B2", "orange": "#D55E00", "green": "#009E73", "pink": "#CC79A7",
    "sky": "#56B4E9", "amber": "#E69F00", "grey": "#6B6B6B", "black": "#1A1A1A",
}  # fmt: skip
"""Okabe & Ito's palette without its yellow, which a white page swallows."""


def use_style() -> None:
    """Set matplotlib up for the book; called once by every notebook that draws."""
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 160,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": mpl.cycler(color=list(COLOURS.values())),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#DDDDDD",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "font.size": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "lines.markersize": 4,
            "svg.hashsalt": "nclib",
        }
    )


def figure(
    rows: int = 1, columns: int = 1, *, width: float = 7.2, height: float = 3.0, **options
) -> tuple[Figure, list[Axes]]:
    """A figure of rows x columns panels, `height` inches a row, and its axes as a flat list."""
    fig, axes = plt.subplots(rows, columns, figsize=(width, height * rows), squeeze=False, **options)
    return fig, list(axes.flat)


def legend_below(axes: list[Axes], entries: int = 2) -> None:
    """One legend under all panels, every label once, in `entries` columns at most as the figure is wide."""
    found = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    fig = axes[0].figure
    entries = entries if fig.get_figwidth() > 6 else 1
    fig.legend(found.values(), found.keys(), loc="outside lower center", ncols=entries, fontsize="small")


def plain_log(axis: Axis) -> None:
    """Label a log axis 0.1, 0.2, 0.5, 1, ..."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def half_width(values: pd.Series) -> float:
    """Half the width of the 95 % t-interval of the mean; NaN with fewer than three values."""
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)) if n >= 3 else math.nan


def mean_and_half(values: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Mean over seeds (rows) of each column, and `half_width` of each."""
    return values.mean(), values.apply(half_width)


def interval(
    values: pd.DataFrame,
    ax: Axes,
    *,
    label: str,
    colour: str,
    log: bool = False,
    marker: str = "o",
    line: str = "-",
) -> Axes:
    """The mean over seeds (rows) at each x (columns) as a line, its 95 % t-interval as a band.

    With `log` mean and interval are taken of the logarithm. A seed without a value at some x leaves that x out of the
    line: nothing is filled in.
    """
    values = values.dropna(axis="columns", how="any").astype(float)
    z = values.map(math.log) if log else values
    n = len(z)
    centre = z.mean()
    x = list(values.columns)
    back = (lambda s: s.map(math.exp)) if log else (lambda s: s)
    ax.plot(x, back(centre), line, color=colour, marker=marker, label=f"{label} (n = {n})")
    if n >= 3:
        half = z.apply(half_width)
        ax.fill_between(x, back(centre - half), back(centre + half), color=colour, alpha=0.18, linewidth=0)
    return ax
