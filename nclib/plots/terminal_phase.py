"""Figures of terminal-phase training: every curve is a mean over seeds, every band a 95 % t-interval."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from nclib import tables
from nclib.plots.simplex import cosines, gram, name_classes
from nclib.plots.style import COLOURS, SHARES, drop_lines, interval, log_epochs, plain_log
from nclib.plots.trajectories import drops, last_epoch, one_sample, onset, seeds_by_epochs

LINES = {"train": "-", "test": "--"}
MARKERS = {"train": "o", "test": "s"}
_LOOKS = (("blue", "o", "-"), ("orange", "s", "--"), ("green", "^", "-."))


def epochs(table: pd.DataFrame, ax: Axes, *, at_most: float = 0.0) -> Axes:
    """`epoch_axis` with the terminal phase shaded, a layer a seed, from a line at its first epoch on.

    The shade is the darker the more seeds have had a measured training error of at most `at_most`.
    """
    end, n = last_epoch(table), table.seed.nunique()
    for start in onset(table, at_most).dropna():
        ax.axvspan(start, end, color=COLOURS["amber"], alpha=0.24 / n, linewidth=0, zorder=0)
        # Where the last epoch is the first of them, the line is all that can be seen.
        ax.axvline(start, color=COLOURS["amber"], linewidth=1.4, zorder=0.5)
    return epoch_axis(table, ax)


def epoch_axis(table: pd.DataFrame, ax: Axes) -> Axes:
    """A log axis of the epochs that were planned, the step schedule's learning-rate drops dotted."""
    drop_lines(drops(table), ax)
    return log_epochs(last_epoch(table), ax)


def curves(
    table: pd.DataFrame,
    series: dict[str, tuple[str, str]],
    ax: Axes,
    *,
    log: bool = True,
    ylabel: str = "",
    columns: int = 2,
) -> Axes:
    """One curve for each label of `series`, which maps it to (metric, split), against epochs.

    Each has its own colour, marker and dashes. With `log` means and intervals are of the logarithm; of `SHARES`
    never. The legend stands above, in this many columns.
    """
    for (label, (metric, split)), (colour, marker, line) in zip(series.items(), _LOOKS, strict=False):
        share = metric in SHARES
        interval(
            seeds_by_epochs(table, metric, split=split), ax, label=label, colour=COLOURS[colour],
            log=log and not share, share=share, marker=marker, line=line,
        )  # fmt: skip
    if log:
        log_axis(ax)
    ax.set_ylabel(ylabel)
    legend(ax, columns)
    return epochs(table, ax)


def legend(ax: Axes, columns: int = 2) -> None:
    """Above the panel, where it hides no curve."""
    ax.legend(
        fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, columnspacing=1
    )


def log_axis(ax: Axes, which: str = "y") -> None:
    """A log axis labelled in plain decimals at 1, 2 and 5: many of these measures span less than a decade."""
    ax.set(**{f"{which}scale": "log"})
    plain_log({"x": ax.xaxis, "y": ax.yaxis}[which])


def down_to_zero(ax: Axes, smallest: float) -> None:
    """A log axis that shows exact zeros: linear below one sample. Call it when everything is drawn."""
    ax.set_yscale("symlog", linthresh=smallest, linscale=0.4)
    ax.set_ylim(0, max(1.5 * ax.dataLim.y1, 10 * smallest))
    ax.yaxis.set_minor_locator(NullLocator())


def errors(table: pd.DataFrame, ax: Axes) -> Axes:
    """Training and test error on a log axis that reaches down to exactly zero."""
    series = {"train": ("error", "train"), "test": ("error", "test")}
    curves(table, series, ax, log=False, ylabel="classification error (share)")
    down_to_zero(ax, one_sample(table))
    return ax


def train_and_test(table: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """One positive metric on training and on test images, under its own name."""
    if metric not in tables.METRICS:
        raise KeyError(f"no metric is called {metric!r}")
    return curves(
        table, {"train": (metric, "train"), "test": (metric, "test")}, ax, ylabel=tables.METRICS[metric]
    )


def nc2(table: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Equal norms, equal angles, maximal angles: of the training class means and of the classifier's rows.

    The classifiers' cosines are drawn where the table has their spread; runs recorded before it was measured do not.
    """
    wanted = (
        ("norm_cv", "CV of norms (equinorm)"),
        ("cos_std", "std of pairwise cosines (equiangular)"),
        ("cos_dev", "mean |cos + 1/(K−1)| (maximal angle)"),
    )
    for ax, (name, ylabel) in zip(axes, wanted, strict=True):
        series = {"class means": (f"nc2_{name}_means", "train")}
        if name != "cos_std" or (table.metric == "nc2_cos_std_weights").any():
            series["classifiers"] = (f"nc2_{name}_weights", "train")
        curves(table, series, ax, ylabel=ylabel, columns=1)
    return axes


def nc3(table: pd.DataFrame, ax: Axes) -> Axes:
    """Self-duality of classifiers and training class means, in the three published forms."""
    series = {
        "‖W/‖W‖ − M/‖M‖‖": ("nc3_frobenius", "train"),
        "W Mᵀ from simplex": ("nc3_etf", "train"),
        "1 − mean cosine": ("nc3_cosine", "train"),
    }
    return curves(table, series, ax, ylabel="NC3 (no unit)")


def nc4(table: pd.DataFrame, ax: Axes) -> Axes:
    """Share of images on which classifier and nearest *training* class mean disagree; zero is on the axis."""
    series = {"train": ("nc4_mismatch", "train"), "test": ("nc4_mismatch_train_means", "test")}
    curves(table, series, ax, log=False, ylabel="NC4: share decided otherwise")
    down_to_zero(ax, one_sample(table))
    return ax


def grams(at: dict[int, np.ndarray], axes: list[Axes], *, names: Sequence[str] | None = None) -> list[Axes]:
    """Cosines of class means (K, d) about their mean, a heat map an epoch, the simplex's own last.

    Columns are numbered by class, and so are the rows of the first, which bear the `names` of the classes, too.
    """
    if len(axes) != len(at) + 1:
        raise ValueError(f"{len(at)} epochs need {len(at) + 1} panels, got {len(axes)}")
    for ax, (epoch, means) in zip(axes, at.items(), strict=False):
        gram(cosines(means), ax).set_title(f"epoch {epoch}")
    K = len(means)
    gram((K * np.eye(K) - 1) / (K - 1), axes[-1]).set_title("simplex ETF")
    for ax in axes:
        name_classes(range(K), ax, names=names, rows=ax is axes[0])
    return axes
