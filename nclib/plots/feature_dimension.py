"""Figures of the feature-dimension chapter: what d dimensions allow ten class means, what training reaches."""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes

from nclib.plots.mnist1d import (
    FRESH,
    NC1_LABEL,
    NC2_LABEL,
    TEST,
    TRAIN,
    K,
    Numbers,
    at_end,
    nc2_references,
    overlay,
    plain_log,
)
from nclib.plots.style import COLOURS, interval
from nclib.tables import select


def curve(table: pd.DataFrame, metric: str, **where: object) -> pd.DataFrame:
    """A metric at the last epoch, seeds by feature dimension."""
    return at_end(table, metric, by="feature_dim", **where)


def _over_dimension(table: pd.DataFrame, ax: Axes) -> Axes:
    dimensions = sorted(int(d) for d in table.feature_dim.unique())
    ax.set_xticks(dimensions, [str(d) for d in dimensions])
    ax.set_xlabel("feature dimension d")
    return ax


def _scale(table: pd.DataFrame) -> str:
    return f"width {table.width.iloc[0]}, {table.epochs.iloc[0]} epochs"


def nc2(
    table: pd.DataFrame,
    ax: Axes,
    *,
    floor: Callable[[int, int], float],
    published: pd.DataFrame | None = None,
) -> Axes:
    """NC2 in the study's convention against d, with the attainable floor and that of random class means."""
    dimensions = table.feature_dim
    nc2_references(range(int(dimensions.min()), int(dimensions.max()) + 1), ax, floor=floor)
    if published is not None:
        overlay(select(published, metric="nc2_gram_frobenius"), ax, x="feature_dim")
    interval(curve(table, "nc2_gram_frobenius", **TRAIN), ax, label="ours", colour=COLOURS["blue"])
    ax.set(title=f"NC2: {_scale(table)}", ylabel=NC2_LABEL, ylim=(0, None))
    return _over_dimension(table, ax)


def excess(
    table: pd.DataFrame,
    ax: Axes,
    *,
    floor: Callable[[int, int], float],
    published: pd.DataFrame | None = None,
) -> Axes:
    """NC2 less its attainable floor: 0 is the best geometry that d dimensions allow, at every d."""
    values = curve(table, "nc2_gram_frobenius", **TRAIN)
    if published is not None:
        theirs = select(published, metric="nc2_gram_frobenius")
        above = theirs.value - theirs.feature_dim.map(lambda d: floor(K, d))
        overlay(theirs.assign(value=above), ax, x="feature_dim")
    interval(values - pd.Series({d: floor(K, d) for d in values}), ax, label="ours", colour=COLOURS["blue"])
    ax.axhline(0, color=COLOURS["black"], linewidth=1.3, label="attainable floor in d dimensions")
    ax.set(title=f"above the floor: {_scale(table)}", ylabel="NC2 − floor")
    return _over_dimension(table, ax)


def implied_participation_ratio(nc2: Numbers, num_classes: int = K) -> Numbers:
    r"""Participation ratio of the cosine Gram that an NC2 stands for, if the unit class means sum to zero.

    $\mathrm{NC2}^2 = K^2(1/PR - 1/(K-1))$ solved for PR.
    """
    return 1 / (nc2**2 / num_classes**2 + 1 / (num_classes - 1))


def participation_ratio(table: pd.DataFrame, ax: Axes, *, published: pd.DataFrame | None = None) -> Axes:
    """How many directions the class means use, of the min(d, K - 1) that there are."""
    dimensions = range(int(table.feature_dim.min()), int(table.feature_dim.max()) + 1)
    ax.plot(
        dimensions,
        [min(d, K - 1) for d in dimensions],
        color=COLOURS["black"],
        linewidth=1.3,
        label="all there are: min(d, 9)",
    )
    if published is not None:
        theirs = select(published, metric="nc2_gram_frobenius")
        theirs = theirs.assign(value=implied_participation_ratio(theirs.value))
        overlay(theirs, ax, x="feature_dim")
    interval(
        curve(table, "participation_ratio_means", **TRAIN),
        ax,
        label="ours, of the class means",
        colour=COLOURS["blue"],
    )
    implied = implied_participation_ratio(curve(table, "nc2_gram_frobenius", **TRAIN))
    interval(implied, ax, label="ours, implied by NC2", colour=COLOURS["green"], marker="s", line="--")
    ax.set(title=_scale(table), ylabel="participation ratio", ylim=(0, 10))
    return _over_dimension(table, ax)


def errors(table: pd.DataFrame, ax: Axes) -> Axes:
    """Training error on noisy labels, and test errors, against d."""
    training = curve(table, "error", **TRAIN)
    interval(
        training, ax, label="training error, noisy labels", colour=COLOURS["grey"], marker="^", line="--"
    )
    test = curve(table, "error", **TEST)
    interval(test, ax, label="error on the 1,000 test samples", colour=COLOURS["sky"], marker="s", line=":")
    fresh = f"error on {int(table.fresh_size.max()):,} fresh test samples"
    interval(curve(table, "error", **FRESH), ax, label=fresh, colour=COLOURS["blue"])
    ax.set(title=f"error: {_scale(table)}", ylabel="error", ylim=(0, None))
    return _over_dimension(table, ax)


def nc1(table: pd.DataFrame, ax: Axes, *, published: pd.DataFrame | None = None) -> Axes:
    """NC1 on noisy training labels against d."""
    if published is not None:
        overlay(select(published, metric="nc1_trace_ratio"), ax, x="feature_dim")
    values = curve(table, "nc1_trace_ratio_weighted", **TRAIN)
    interval(values, ax, label="NC1, noisy labels", colour=COLOURS["green"], log=True)
    ax.set(title=f"NC1: {_scale(table)}", ylabel=NC1_LABEL, yscale="log")
    plain_log(ax.yaxis)
    return _over_dimension(table, ax)
