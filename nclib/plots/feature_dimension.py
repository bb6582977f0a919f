"""Figures of the feature-dimension chapter: what d dimensions allow ten class means, what training reaches."""

import math
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
)
from nclib.plots.style import COLOURS, interval, plain_log
from nclib.tables import select


def curve(table: pd.DataFrame, metric: str, **where: object) -> pd.DataFrame:
    """A metric at the last epoch, seeds by feature dimension."""
    return at_end(table, metric, by="feature_dim", **where)


_LABELLED = (2, 3, 4, 5, 7, 9, 12, 16, 32, 64)


def _over_dimension(table: pd.DataFrame, ax: Axes) -> Axes:
    dimensions = sorted(int(d) for d in table.feature_dim.unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(dimensions, [str(d) if d in _LABELLED else "" for d in dimensions])
    ax.minorticks_off()
    ax.tick_params(axis="x", labelsize=8.5)
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


def kinds(
    tables: dict[str, pd.DataFrame],
    ax: Axes,
    *,
    metric: str = "nc2_gram_frobenius",
    floor: Callable[[int, int], float] | None = None,
    log: bool = False,
) -> Axes:
    """A metric of several kinds of runs against d, one curve each; less its attainable `floor`, when given."""
    looks = zip(list(COLOURS.values()), "os^Dv", ("-", "--", "-.", ":", "-"), strict=False)
    for (name, table), (colour, marker, line) in zip(tables.items(), looks, strict=False):
        values = curve(table, metric, **TRAIN)
        if floor is not None:
            values = values - pd.Series({d: floor(K, d) for d in values})
        interval(values, ax, label=name, colour=colour, marker=marker, line=line, log=log)
    every = pd.concat(tables.values())
    ax.set(title=_scale(every))
    return _over_dimension(every, ax)


def best_margin(d: int, num_classes: int = K) -> float | None:
    r"""The largest one-versus-rest margin of K directions in d dimensions, where a closed form is known.

    $1 - \cos(2\pi/K)$ (polygon) for d = 2, 1 for $d + 2 \le K \le 2d$, $K/(K-1)$ (simplex) from d = K - 1 on.
    Jiang et al. (2023).
    """
    if d == 2:
        return 1 - math.cos(2 * math.pi / num_classes)
    if d >= num_classes - 1:
        return num_classes / (num_classes - 1)
    return 1.0 if d + 2 <= num_classes <= 2 * d else None


def margins(table: pd.DataFrame, ax: Axes, *, title: str) -> Axes:
    """One-versus-rest margins of the directions of class means and of classifiers against d, and the largest known."""
    for metric, labels, name, colour, marker, line in (
        ("one_vs_rest_margin_weights", "none", "classifiers", "blue", "o", "-"),
        ("one_vs_rest_margin_means", "noisy", "class means", "green", "s", "--"),
    ):
        values = curve(table, metric, split="train", labels=labels, layer="features")
        interval(values, ax, label=name, colour=COLOURS[colour], marker=marker, line=line)
    known = {d: best_margin(d) for d in sorted(int(d) for d in table.feature_dim.unique())}
    known = {d: value for d, value in known.items() if value is not None}
    label = "largest there is, where known"
    ax.plot([*known], [*known.values()], "_", color=COLOURS["black"], ms=14, mew=1.5, label=label)
    ax.set(title=title, ylabel="one-versus-rest margin", ylim=(0, None))
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
    label = "training error, noisy labels"
    interval(training, ax, label=label, colour=COLOURS["grey"], share=True, marker="^", line="--")
    test = curve(table, "error", **TEST)
    label = "error on the 1,000 test samples"
    interval(test, ax, label=label, colour=COLOURS["sky"], share=True, marker="s", line=":")
    fresh = f"error on {int(table.fresh_size.max()):,} fresh test samples"
    interval(curve(table, "error", **FRESH), ax, label=fresh, colour=COLOURS["blue"], share=True)
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
