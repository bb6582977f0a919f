"""What the figures of the representations chapter share: reading the table, marks by layer, axes of epochs."""

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from nclib.plots.style import COLOURS, half_width
from nclib.tables import select

DEBIASED, BIASED = "cka_linear_debiased", "cka_linear"


def layers(table: pd.DataFrame) -> list[str]:
    """Names of the layers of network A, from the input on."""
    return list(dict.fromkeys(pair.split("|")[0] for pair in table.layer if "|" in pair and "@" not in pair))


def by_epoch(
    rows: pd.DataFrame, layer: str, metric: str = DEBIASED, split: str = "test", labels: str | None = None
) -> pd.DataFrame:
    """A metric of one layer, or pair of layers, seeds by epochs, on the labels trained on unless others are named.

    Raises KeyError when no run has it.
    """
    found = select(rows, layer=layer, metric=metric, split=split)
    if labels is None and found.labels.nunique() > 1:
        labels = "noisy"
    found = found if labels is None else select(found, labels=labels)
    if found.empty:
        raise KeyError(f"no run of this table has {metric} of {layer} on {split} points")
    return found.pivot(index="seed", columns="epoch", values="value")


def ends(
    rows: pd.DataFrame,
    pairs: list[str],
    metric: str = DEBIASED,
    split: str = "test",
    *,
    trained: bool = True,
    labels: str | None = None,
) -> list[pd.Series]:
    """A metric by seed of each of these pairs of layers: at the last epoch, or before training."""
    values = [by_epoch(rows, pair, metric, split, labels) for pair in pairs]
    return [found[found.columns.max() if trained else 0] for found in values]


def marks(
    values: list[pd.Series],
    ax: Axes,
    *,
    label: str,
    colour: str,
    marker: str,
    shift: float = 0.0,
    filled: bool = True,
) -> None:
    """Side by side, one mark per element: the mean with its 95 % t-interval, and the single values as dots."""
    error = [half_width(v) for v in values]
    shown = None if any(map(math.isnan, error)) else error
    x = np.arange(len(values)) + shift
    face = colour if filled else "white"
    label = f"{label} (n = {len(values[0])} pairs)"
    ax.errorbar(
        x,
        [v.mean() for v in values],
        shown,
        fmt=marker,
        color=colour,
        mfc=face,
        capsize=3,
        ms=6,
        label=label,
    )
    for position, single in zip(x, values, strict=True):
        ax.plot([position] * len(single), single, ".", color=COLOURS["black"], ms=2.5, alpha=0.6, zorder=4)


def over_epochs(ax: Axes) -> Axes:
    """A logarithmic axis of epochs, labelled 1, 10, 100."""
    ax.set(xscale="log", xlabel="epoch")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    return ax
