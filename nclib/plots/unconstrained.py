"""Figures of the unconstrained-feature chapter: descents, with the closed forms that they converge to drawn on top.

Closed forms are handed in as plain numbers and frames: what computes them needs torch, and nothing here may.
"""

import itertools
import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nclib.plots.style import COLOURS
from nclib.tables import METRICS, select

OPTIMIZERS = {
    "sgd": ("SGD", COLOURS["orange"]),
    "adam": ("Adam", COLOURS["green"]),
    "lbfgs": ("L-BFGS", COLOURS["blue"]),
}
"""Label and colour of every optimiser."""

ROUNDING = 2.0**-52
"""Spacing of float64 numbers at 1, relative to which no difference can be told from zero."""

PARABOLA = r"$-(\|\nabla g\|_2 - \sqrt{\lambda_W\lambda_H})\,s^2$"
STRENGTH = r"$K\sqrt{n\lambda_W\lambda_H}$"
MARGIN = r"$a\|W\|_F^2\,/\,(K-1)$"  # a = sqrt(lambda_W / (n lambda_H))

THEORY = {"color": COLOURS["black"], "linestyle": "--", "linewidth": 1.2, "zorder": 3}


def descents(
    table: pd.DataFrame,
    metric: str,
    ax: Axes,
    *,
    layer: str = "all",
    log: bool = True,
    floor: float | None = None,
    closed_form: float | None = None,
    label: str | None = None,
) -> Axes:
    """One metric over epochs, a line a run in its optimiser's colour, and the closed form as a dashed line.

    On a log axis, with a `floor`: absolute values are drawn, those at or below the floor as hollow markers on it.
    Raises KeyError for a metric that the table lacks, ValueError for what a log axis without a floor cannot show.
    """
    rows = select(table, metric=metric, layer=layer, split="train", labels="clean")
    if rows.empty:
        raise KeyError(f"the table has no {metric!r} of layer {layer!r}")
    if log and floor is None and not (rows.value > 0).all():
        raise ValueError(f"{metric} has values that a log axis cannot show: give a floor")
    for name in [o for o in OPTIMIZERS if o in set(rows.optimizer)]:
        title, colour = OPTIMIZERS[name]
        of_optimizer = select(rows, optimizer=name).sort_values("epoch")
        label_once = f"{title} (n = {of_optimizer.run.nunique()})"
        for _, run in of_optimizer.groupby("run", sort=False):
            shown = run.value if floor is None else run.value.abs().clip(lower=floor)
            ax.plot(run.epoch, shown, color=colour, alpha=0.75, linewidth=1.2, label=label_once)
            label_once = "_nolegend_"
            if floor is not None:
                below = run.value.abs() <= floor
                hollow = {"marker": "o", "markersize": 3.5, "markerfacecolor": "white", "linestyle": "none"}
                ax.plot(run.epoch[below], shown[below], color=colour, **hollow)
    if log:
        ax.set_yscale("log")
    if floor is not None:
        ax.axhline(floor, color=COLOURS["grey"], linestyle=":", linewidth=1.0)
    # A closed form of zero has no place on a log axis.
    if closed_form is not None and (closed_form > 0 or not log):
        ax.axhline(closed_form, label="closed form", **THEORY)
    _epochs(ax, rows.epoch.max())
    ax.set_ylabel(METRICS[metric] if label is None else label)
    return ax


def lower_bound(curve: pd.DataFrame, ax: Axes, *, ends: pd.DataFrame | None = None) -> Axes:
    """The bound over rho (the frame's index): the column "bound" as the theory line, all others as thin lines.

    `ends` holds points to put on it, one a run: columns optimizer, x and y.
    """
    for name, dashes in zip(curve.columns.drop("bound"), itertools.cycle((":", "-.", "--"))):
        ax.plot(curve.index, curve[name], dashes, color=COLOURS["blue"], linewidth=1.1, label=name)
    ax.plot(curve.index, curve["bound"], **(THEORY | {"linestyle": "-"}), label="best bound")
    if ends is not None:
        _points(ends, ax)
    ax.set_xlabel(r"$\rho = \|W\|_F^2$")
    return ax


def escape(curve: pd.DataFrame, ax: Axes, *, excess: float, log: bool = False) -> Axes:
    """f - f(0) over the step s (the frame's index) from the origin, with the parabola -excess s^2.

    Columns: "escape", and "control" for another direction of the same length. With `log`, the decrease f(0) - f
    along the escape direction on log axes.
    """
    s = curve.index.to_numpy()
    sign = -1 if log else 1
    if not log:
        ax.plot(s, curve["control"], color=COLOURS["grey"], label="random direction, same length")
        # The parabola leaves the figure where it stops describing f.
        spread = curve["escape"].max() - curve["escape"].min()
        ax.set_ylim(curve["escape"].min() - 0.45 * spread, max(curve.max().max(), 0) + 0.15 * spread)
    ax.plot(s, sign * curve["escape"], color=COLOURS["blue"], linewidth=2.4, label="escape direction")
    ax.plot(s, -sign * excess * s**2, label=PARABOLA, **THEORY)
    if log:
        ax.set_xscale("log")
        ax.set_yscale("log")
    ax.set_xlabel("s")
    ax.set_ylabel("f(0) − f(sΔ)" if log else "f(sΔ) − f(0)")
    return ax


def strength(table: pd.DataFrame) -> pd.Series:
    """K sqrt(n lambda_W lambda_H) of every row: the minimiser is zero from 1 on."""
    return table.num_classes * np.sqrt(table.per_class * table.lambda_W * table.lambda_H)


def ends(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows of one metric at each run's last epoch; KeyError when a run has none there."""
    rows = select(table, metric=metric, layer="all", split="train", labels="clean")
    rows = rows[rows.epoch == rows.epochs]
    absent = table.run.nunique() - rows.run.nunique()
    if absent:
        raise KeyError(f"{metric!r} is missing at the last epoch of {absent} runs")
    return rows


def threshold(table: pd.DataFrame, curve: pd.DataFrame, ax: Axes, *, quantity: str) -> Axes:
    """Where runs of any strength end, on the closed form of their number of classes.

    `quantity` is "objective", or "margin": ||W||^2 in units of (K-1) sqrt(n lambda_H / lambda_W), which is the
    logit margin of the minimiser. Both depend on the strength and K alone. `curve` has the columns num_classes,
    strength, objective and margin.
    """
    for (K, of_size), style in zip(curve.groupby("num_classes"), itertools.cycle(("-", ":"))):
        line = THEORY | {"linestyle": style}
        ax.plot(of_size.strength, of_size[quantity], label=f"closed form, K = {K}", **line)
    rows = ends(table, "objective" if quantity == "objective" else "weight_norm_squared")
    y = rows.value
    if quantity == "margin":
        y = y * np.sqrt(rows.lambda_W / (rows.per_class * rows.lambda_H)) / (rows.num_classes - 1)
    _points(pd.DataFrame({"optimizer": rows.optimizer, "x": strength(rows), "y": y}), ax)
    ax.axvline(1, color=COLOURS["pink"], linewidth=1.2, label="collapse threshold")
    ax.set_xscale("log")
    ax.set_xlabel(STRENGTH)
    ax.set_ylabel("objective f" if quantity == "objective" else MARGIN)
    return ax


def singular_values(
    epochs: np.ndarray, values: np.ndarray, ax: Axes, *, num_classes: int, limit: float, colour: str
) -> Axes:
    """Singular values (epochs x values, descending) over epochs, the K-th in pink; linear, since it goes to zero.

    `limit` is the closed form of the first K - 1, dashed.
    """
    for k, series in enumerate(values.T):
        last = k == num_classes - 1
        name = "K-th" if last else "the first K − 1" if k == 0 else "_nolegend_"
        line = {"color": COLOURS["pink"], "linewidth": 2.0} if last else {"color": colour, "linewidth": 0.9}
        ax.plot(epochs, series, label=name, **line)
    ax.axhline(limit, label="closed form", **THEORY)
    _epochs(ax, epochs.max())
    return ax


def _points(points: pd.DataFrame, ax: Axes) -> None:
    # Runs that end in the same place would hide each other: the shapes are nested instead.
    shapes = {"sgd": ("o", 10), "adam": ("s", 7), "lbfgs": ("D", 3.5)}
    for name in [o for o in OPTIMIZERS if o in set(points.optimizer)]:
        title, colour = OPTIMIZERS[name]
        marker, size = shapes[name]
        of_optimizer = points[points.optimizer == name]
        style = {
            "marker": marker,
            "markersize": size,
            "linestyle": "none",
            "markeredgewidth": 1.4,
            "zorder": 4,
        }
        face = colour if name == "lbfgs" else "none"
        label = f"{title}, end (n = {len(of_optimizer)})"
        ax.plot(of_optimizer.x, of_optimizer.y, color=colour, markerfacecolor=face, label=label, **style)


def _epochs(ax: Axes, last: float) -> None:
    """Epoch 0 must be seen: linear up to epoch 1, logarithmic from there."""
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xlim(0, 1.25 * max(last, 1))  # markers at the last epoch are drawn whole
    decades = [10**k for k in range(math.floor(math.log10(max(last, 1))) + 1)]
    ax.set_xticks([0, *decades], ["0", "1", *(f"$10^{k}$" for k in range(1, len(decades)))])
    ax.set_xlabel("epoch")
