"""Figures of the landscape chapter: where many starts end, what kind of points there are, and the phase diagram."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from nclib.plots.style import COLOURS
from nclib.plots.unconstrained import ROUNDING, THEORY

METHODS = {
    "gd": ("GD", COLOURS["pink"]),
    "sgd": ("SGD", COLOURS["orange"]),
    "adam": ("Adam", COLOURS["green"]),
    "lbfgs": ("L-BFGS", COLOURS["blue"]),
}
"""Label and colour of every method of descent."""

KINDS = {
    "global minimum": ("o", COLOURS["blue"]),
    "saddle": ("x", COLOURS["orange"]),
    "other local minimum": ("s", COLOURS["pink"]),
    "not critical": ("+", COLOURS["grey"]),
}
"""Mark and colour of every kind of point, in the order of their numbers in records."""


def gaps(excess: Mapping[str, np.ndarray], ax: Axes, *, tolerance: float) -> Axes:
    """How many starts of each method end at which |f - f*| / f*, on a log axis, a histogram a method.

    Gaps below float64 rounding count there, and the axis says how many do. The `tolerance` that is judged is a
    dashed line. KeyError for a method that is none of `METHODS`, ValueError for a gap that is not finite.
    """
    below = sum(int((np.abs(values) < ROUNDING).sum()) for values in excess.values())
    shown = {name: np.abs(values).clip(min=ROUNDING) for name, values in excess.items()}
    if not all(np.isfinite(values).all() for values in shown.values()):
        raise ValueError("a gap is not a finite number")
    top = max([tolerance, *(values.max() for values in shown.values())])
    edges = 10.0 ** np.arange(np.floor(np.log10(ROUNDING)), np.ceil(np.log10(top)) + 0.75, 0.25)
    for name, values in shown.items():
        title, colour = METHODS[name]
        label = f"{title} (n = {len(values)})"
        ax.hist(values, bins=edges, histtype="stepfilled", alpha=0.35, color=colour)
        ax.hist(values, bins=edges, histtype="step", color=colour, linewidth=1.4, label=label)
    bound = np.format_float_scientific(tolerance, trim="-", exp_digits=1)
    ax.axvline(tolerance, label=f"bound {bound}", **THEORY)
    ax.set_xscale("log")
    clipped = f" ({below} below 2⁻⁵² ≈ {ROUNDING:.1e} counted there)" if below else ""
    ax.set_xlabel(f"|f − f*| / f*{clipped}")
    ax.set_ylabel("starts")
    return ax


def critical_points(points: pd.DataFrame, ax: Axes, *, against: str) -> Axes:
    """f / f* of every point against its smallest eigenvalue or its rank, its kind as a mark.

    Columns: excess (f / f* - 1), kind (a key of `KINDS`), and "eigenvalue" or "rank", whichever is `against`.
    Kinds of which there is no point stand in the legend with n = 0: that is what is claimed of one of them.
    """
    for kind, (marker, colour) in KINDS.items():
        those = points[points.kind == kind]
        label = f"{kind} (n = {len(those)})"
        hollow = {"facecolors": "none", "edgecolors": colour} if marker in "os" else {"color": colour}
        ax.scatter(those[against], 1 + those.excess, marker=marker, s=28, label=label, **hollow)
    ax.set_yscale("log")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if tick <= 2 * (1 + points.excess.max())]
    ax.set_yticks(ticks, [f"{tick}" for tick in ticks])
    ax.yaxis.minorticks_off()
    ax.set_ylabel("f / f*")
    if against == "eigenvalue":
        ax.set_xscale("symlog", linthresh=1e-3)
        ax.axvline(0, color=COLOURS["grey"], linewidth=1.0, linestyle=":")
        ax.set_xlabel("smallest eigenvalue of ∇²f")
    else:
        ax.set_xticks(range(int(points[against].max()) + 1))
        ax.set_xlabel("rank of W")
    return ax


def phase_diagram(phases: pd.DataFrame, ax: Axes, *, num_classes: int, top: float) -> PathCollection:
    """The margin reached at every (lambda_W, lambda_H) of one n, and the predicted boundary, a line of slope -1.

    Columns: lambda_W, lambda_H, per_class (one value) and margin, whose colours end at `top`. Zero margins, below
    1e-3, are hollow. Returns the coloured marks, for a colour bar. ValueError for more than one n.
    """
    (n,) = phases.per_class.unique()
    zero = phases.margin < 1e-3
    kept, none = phases[~zero], phases[zero]
    marks = ax.scatter(
        kept.lambda_W, kept.lambda_H, c=kept.margin, cmap="viridis", marker="s", s=26, vmin=0, vmax=top
    )
    ax.scatter(
        none.lambda_W,
        none.lambda_H,
        marker="s",
        s=22,
        facecolors="none",
        edgecolors=COLOURS["grey"],
        label="zero",
    )
    span = np.array([phases.lambda_W.min(), phases.lambda_W.max()])
    ax.plot(span, 1 / (num_classes**2 * n * span), label=r"$n\lambda_W\lambda_H = 1/K^2$", **THEORY)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(phases.lambda_H.min() / 1.6, phases.lambda_H.max() * 1.6)
    ax.set_title(f"n = {n}", fontsize="small")
    ax.set_xlabel(r"$\lambda_W$")
    ax.set_ylabel(r"$\lambda_H$")
    return marks
