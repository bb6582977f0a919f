"""Figures of what the terminal phase is good for: test accuracy and adversarial robustness, before and after."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nclib import tables
from nclib.plots.style import COLOURS, half_width, interval
from nclib.plots.terminal_phase import at_epoch, epochs, last_epoch, onset

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
    ax.set_ylabel("mean ‖r‖/‖x‖ of DeepFool (no unit)")
    ax.set_ylim(0, None)
    ax.legend(fontsize=8, loc="lower right")
    return epochs(table, ax)


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """By seed: test accuracy and DeepFool distance at the first epoch of zero training error, at the end, and the gain.

    NaN for a seed that never reaches zero training error; accuracy in per cent of the test images.
    """
    start, end, found = onset(table), last_epoch(table), distances(table)
    rows = {}
    for seed in found.index:
        begins = start[seed]
        before, after = (
            100 * (1 - at_epoch(table, "error", e, split="test")[seed]) if pd.notna(e) else float("nan")
            for e in (begins, end)
        )
        closer = found.loc[seed].get(begins, float("nan"))
        further = found.loc[seed, end]
        rows[seed] = (begins, before, after, after - before, closer, further, further - closer)
    columns = ["first zero-error epoch"]
    columns += [
        f"{name}, {when}" for name in ("accuracy (%)", "‖r‖/‖x‖") for when in ("then", "at the end", "gain")
    ]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("seed")


def mean_with_interval(values: pd.Series, *, log: bool = False) -> str:
    """A mean over seeds with its 95 % t-interval, three digits; with `log` both are of the logarithm."""
    values = values.dropna()
    values, back = (np.log(values), np.exp) if log else (values, lambda value: value)
    centre, half = values.mean(), half_width(values)
    if len(values) < 3:
        return f"{back(centre):.3g} (n = {len(values)}, no interval)"
    return f"{back(centre):.3g} [{back(centre - half):.3g}, {back(centre + half):.3g}], n = {len(values)}"
