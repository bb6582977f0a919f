"""Figures of the controls chapter: what moves the peak, and what of "SGD versus Adam" is the optimiser's doing."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from nclib.plots.double_descent import NAMES, interpolation, title
from nclib.plots.mnist1d import FRESH, TRAIN, at_end, of
from nclib.plots.style import COLOURS, SHARES, interval, mean_and_half

_MARKERS = ("o", "s", "^", "D", "v")
_OPTIMIZERS = {
    "sgd": (COLOURS["blue"], "o"),
    "adam": (COLOURS["orange"], "s"),
    "adamw": (COLOURS["green"], "^"),
}


def levels(
    rows: pd.DataFrame, ax: Axes, *, column: str, label: str, metric: str = "error", **where: object
) -> Axes:
    """A metric at the last epoch against width, one curve for each of its values in `column`.

    `label` says what the value is, with {} for it; `where` is the split and labels, by default fresh samples.
    A mark of the curve's colour at the foot: the width from which on mean training error is at most 10 %.
    """
    values = sorted(rows[column].unique())
    shades = plt.get_cmap("cividis")(np.linspace(0.0, 0.85, len(values)))
    for i, (value, colour, marker) in enumerate(zip(values, shades, _MARKERS, strict=False)):
        mine = of(rows, **{column: value})
        curve = at_end(mine, metric, by="width", **(where or FRESH))
        interval(curve, ax, label=label.format(value), colour=colour, share=metric in SHARES, marker=marker)
        x = interpolation(at_end(mine, "error", by="width", **TRAIN), 0.1)
        if x is not None:
            ax.plot(
                [x], [0.02 + 0.045 * i], marker=marker, color=colour, ms=8, mec=COLOURS["black"], clip_on=False,
                transform=ax.get_xaxis_transform(), zorder=5,
            )  # fmt: skip
    ax.set(title=title(rows), ylabel="error on fresh samples", ylim=(0, None))
    return _over_width(ax, sorted(rows.width.unique()))


def _over_width(ax: Axes, widths: list[int]) -> Axes:
    ax.set(xscale="log", xlabel="width w (marks: training error ≤ 10 %)")
    ax.set_xticks(widths, [str(w) for w in widths])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.minorticks_off()
    ax.tick_params(axis="x", labelsize=8.5)
    return ax


def positions(places: dict[str, pd.DataFrame], ax: Axes) -> Axes:
    """Widths by seed against the training-set size (columns): geometric mean as a line, every seed as a point."""
    for (name, widths), colour, marker in zip(
        places.items(), (COLOURS["blue"], COLOURS["orange"]), ("o", "s"), strict=False
    ):
        interval(widths.astype(float), ax, label=name, colour=colour, marker=marker, log=True)
        for seed in widths.index:
            ax.plot(widths.columns, widths.loc[seed], marker, color=colour, ms=3, alpha=0.4)
    sizes = list(next(iter(places.values())).columns)
    ax.set(xscale="log", yscale="log", xlabel="training samples n", ylabel="width w")
    ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
    shown = [4, 6, 8, 12, 16, 24, 32, 64]
    ax.set_yticks(shown, [str(w) for w in shown])
    ax.minorticks_off()
    return ax


def factorial(rows: pd.DataFrame, ax: Axes, *, metric: str, label: str, **where: object) -> Axes:
    """A metric at the last epoch by schedule and weight decay, one mark an optimiser: mean, 95 % t-interval, seeds."""
    cells = [(s, d) for s in ("constant", "cosine") for d in (1e-4, 5e-4)]
    optimizers = [o for o in _OPTIMIZERS if o in set(rows.optimizer)]
    for shift, optimizer in zip((-0.22, 0.0, 0.22), optimizers, strict=False):
        colour, marker = _OPTIMIZERS[optimizer]
        frame = at_end(of(rows, optimizer=optimizer), metric, by=["schedule", "weight_decay"], **where)
        n = len(frame)
        x = np.arange(len(cells)) + shift
        mean, half = mean_and_half(frame[cells])
        name = f"{NAMES[optimizer]} (n = {n})"
        ax.errorbar(x, mean, half, fmt=marker, color=colour, capsize=3, ms=6, label=name)
        for at, cell in zip(x, cells, strict=True):
            ax.plot([at + 0.07] * n, frame[cell], ".", color=colour, ms=3, alpha=0.7)
    ax.set_xticks(range(len(cells)), [f"{s}\n{d:g}" for s, d in cells], fontsize=8.5)
    ax.set(ylabel=label, xlabel="schedule, weight decay", xlim=(-0.5, len(cells) - 0.5))
    ax.grid(visible=False, axis="x")
    return ax


def effects(by_metric: dict[str, pd.DataFrame], ax: Axes) -> Axes:
    """Main effects of the factors (columns) on each metric, as shares of its mean: mean and 95 % t-interval."""
    factors = list(next(iter(by_metric.values())).columns)
    for i, (name, frame) in enumerate(by_metric.items()):
        mean, half = mean_and_half(frame)
        x = np.arange(len(factors)) + (i - (len(by_metric) - 1) / 2) * 0.22
        colour = list(COLOURS.values())[i]
        ax.errorbar(
            x, mean, half, fmt=_MARKERS[i], color=colour, capsize=3, ms=6, label=f"{name} (n = {len(frame)})"
        )
    ax.axhline(0, color=COLOURS["black"], linewidth=1)
    ax.set_xticks(range(len(factors)), factors)
    ax.set(ylabel="effect, share of the mean", xlim=(-0.5, len(factors) - 0.5))
    ax.grid(visible=False, axis="x")
    return ax
