"""One look for all figures: colour-blind safe, opaque in light and dark, the same bytes on every run."""

import math
from collections.abc import Iterable

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)
from scipy import special, stats

COLOURS = {
    "blue": "#0072B2", "orange": "#D55E00", "green": "#009E73", "pink": "#CC79A7",
    "sky": "#56B4E9", "amber": "#E69F00", "grey": "#6B6B6B", "black": "#1A1A1A",
}  # fmt: skip
"""Okabe & Ito's palette without its yellow, which a white page swallows."""
SHARES = {
    "error", "ncc_accuracy", "ncc_accuracy_train_means", "nc4_mismatch", "nc4_mismatch_train_means",
}  # fmt: skip
"""Metrics that are shares of samples: their intervals stay within [0, 1]."""


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


def log_scale(ax: Axes, which: str = "y") -> None:
    """A log axis with a few plain numbers on it, however short it is; called once all is drawn."""
    ax.set(**{f"{which}scale": "log"})
    axis, (low, high) = {"x": (ax.xaxis, ax.get_xlim()), "y": (ax.yaxis, ax.get_ylim())}[which]
    if high < 300 * low:
        plain_log(axis)
    if high < 6 * low:
        axis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))


def log_epochs(end: int, ax: Axes) -> Axes:
    """A log axis of the epochs from 1 to `end`."""
    ticks = [e for e in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if e < 0.6 * end] + [end]
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda e, _: f"{e:g}"))
    ax.set(xlabel="epoch", xlim=(0.93, end * 1.07))
    return ax


def drop_lines(after: Iterable[int], ax: Axes, colour: str = COLOURS["grey"]) -> None:
    """Learning-rate drops after these epochs, dotted."""
    for e in after:
        ax.axvline(e + 0.5, color=colour, linewidth=0.9, linestyle=":", zorder=1)


def half_width(values: pd.Series) -> float:
    """Half the width of the 95 % t-interval of the mean; NaN with fewer than three values."""
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)) if n >= 3 else math.nan


def mean_and_half(values: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Mean over seeds (rows) of each column, and `half_width` of each."""
    return values.mean(), values.apply(half_width)


def mean_and_interval(
    values: pd.Series, *, log: bool = False, share: bool = False
) -> tuple[float, float, float]:
    r"""Mean over seeds and the two ends of its 95 % t-interval; the ends are NaN with fewer than three values.

    What a quantity cannot be, its interval does not hold. With `log`, of positive values, all three are of the
    logarithm and transformed back. With `share`, of values in [0, 1], the mean m is the plain one and the interval is
    that of its logit, by the delta method and transformed back:
    $\operatorname{logit} m \pm t_{0.975,n-1}\,s/(\sqrt{n}\,m(1-m))$. It is the plain one where seeds are alike, stays
    within [0, 1] where they are not, and is m alone where all are 0 or all are 1.
    Source: the method "xlogit" of `svyciprop` in the R package survey (Lumley).
    Raises ValueError for a share outside [0, 1].
    """
    if log:
        centre, low, high = mean_and_interval(values.map(math.log))
        return math.exp(centre), math.exp(low), math.exp(high)
    centre, half = float(values.mean()), half_width(values)
    if share and not values.between(0, 1).all():
        raise ValueError(f"a share lies in [0, 1], got {values.min():g} to {values.max():g}")
    if not share or not half > 0:
        return centre, centre - half, centre + half
    half /= centre * (1 - centre)
    low, high = (float(special.expit(special.logit(centre) + z)) for z in (-half, half))
    return centre, low, high


def mean_with_interval(values: pd.Series, *, log: bool = False) -> str:
    """A mean over seeds with its 95 % t-interval, three digits; with `log` both are of the logarithm."""
    values = values.dropna()
    values, back = (np.log(values), np.exp) if log else (values, lambda value: value)
    centre, half = values.mean(), half_width(values)
    if len(values) < 3:
        return f"{back(centre):.3g} (n = {len(values)}, no interval)"
    return f"{back(centre):.3g} [{back(centre - half):.3g}, {back(centre + half):.3g}], n = {len(values)}"


def interval(
    values: pd.DataFrame,
    ax: Axes,
    *,
    label: str,
    colour: str,
    log: bool = False,
    share: bool = False,
    marker: str = "o",
    line: str = "-",
) -> Axes:
    """The mean over seeds (rows) at each x (columns) as a line, its 95 % t-interval as a band.

    Both are those of `mean_and_interval` with `log` or `share`. A seed without a value at some x leaves that x out
    of the line: nothing is filled in.
    """
    values = values.dropna(axis="columns", how="any").astype(float)
    n, x = len(values), list(values.columns)
    drawn = [mean_and_interval(column, log=log, share=share) for _, column in values.items()]
    centre, low, high = zip(*drawn, strict=True) if drawn else ((), (), ())
    ax.plot(x, centre, line, color=colour, marker=marker, label=f"{label} (n = {n})")
    if n >= 3:
        ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    return ax
