"""Figures of what the terminal phase is good for: test accuracy and adversarial robustness, before and after."""

from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from nclib import tables
from nclib.plots.style import COLOURS, drop_lines, interval
from nclib.plots.terminal_phase import epochs, legend
from nclib.plots.trajectories import drops, last_epoch, onset, seeds_by_epochs

ATTACKED = {"split": "test", "layer": "all", "labels": "none"}


def distances(table: pd.DataFrame, metric: str = "deepfool_relative_mean") -> pd.DataFrame:
    """A DeepFool distance, a row a seed and a column an attacked epoch; NaN where a seed was not attacked.

    Raises KeyError when no run was attacked.
    """
    rows = tables.select(table, metric=metric, **ATTACKED)
    if rows.empty:
        raise KeyError(f"the table holds no {metric!r}: were the runs recorded with attacked > 0?")
    return rows.pivot(index="seed", columns="epoch", values="value")


def robustness(table: pd.DataFrame, ax: Axes) -> Axes:
    """Mean relative DeepFool distance of test images against epochs: the mean over seeds and every seed.

    A seed is attacked at its own first epoch of zero training error, too; the mean is drawn where all seeds are.
    """
    found = distances(table)
    interval(found, ax, label="test images", colour=COLOURS["orange"], marker="s", line="--")
    for seed in found.index:
        own = found.loc[seed].dropna()
        ax.plot(own.index, own, ".", color=COLOURS["orange"], ms=4, alpha=0.6)
    ax.set_ylabel("mean ‖r‖/‖x‖ (no unit)")
    ax.set_ylim(0, None)
    epochs(table, ax)
    legend(ax)
    return ax


def terminal_error(table: pd.DataFrame, ax: Axes) -> Axes:
    """Test error in the terminal phase alone, on linear axes, as its gain is small: mean over seeds and every seed.

    A seed begins at its first measured epoch without a training error; one that has none is left out, but where none
    has, all are shown at all epochs. The mean is drawn where all the shown are. Dotted: learning-rate drops.
    """
    error, begins = seeds_by_epochs(table, "error", split="test"), onset(table).dropna()
    if begins.empty:
        begins = pd.Series(error.columns[0], index=error.index)
    first = begins.min()
    own = error.loc[begins.index].where(lambda e: e.columns.to_numpy() >= begins.to_numpy()[:, None])
    shown = own.loc[:, own.notna().any()]
    interval(shown, ax, label="mean", colour=COLOURS["orange"], share=True, marker="s", line="--")
    for seed, looks in zip(shown.index, cycle(("o", "^", "D", "v")), strict=False):
        path = shown.loc[seed].dropna()
        ax.plot(path.index, path, looks, ls="-", lw=0.7, color=COLOURS["grey"], label=f"seed {seed}")
    drop_lines([e for e in drops(table) if e >= first], ax)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=""))
    ax.set(xlabel="epoch", ylabel="test error (%)")
    legend(ax)
    return ax


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """By seed: test accuracy at the first epoch of zero training error, at the end, and the gain.

    Of runs that were attacked the same of DeepFool's distance, and the share of images that it moved over a
    boundary, over which that is the mean. NaN for a seed that never reaches zero training error; accuracy in per
    cent of the test images.
    """
    start, end = onset(table), last_epoch(table)
    columns = {"first zero-error epoch": start}
    measures = {"accuracy (%)": 100 * (1 - seeds_by_epochs(table, "error", split="test"))}
    if not tables.select(table, metric="deepfool_found", **ATTACKED).empty:
        measures |= {"‖r‖/‖x‖": distances(table), "share moved": distances(table, "deepfool_found")}
    for name, found in measures.items():
        then, now = (
            pd.Series({seed: found.loc[seed].get(epoch[seed], np.nan) for seed in found.index})
            for epoch in (start, dict.fromkeys(found.index, end))
        )
        columns |= {f"{name}, then": then, f"{name}, at the end": now}
        if name != "share moved":
            columns[f"{name}, gain"] = now - then
    return pd.DataFrame(columns).rename_axis("seed")
