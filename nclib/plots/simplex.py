"""The simplex ETF drawn: its vertices, its Gram matrix, constructed features, formulas with measurements."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d import Axes3D

from nclib.plots.style import COLOURS

_PALETTE = list(COLOURS.values())


def _vertices(vertices: np.ndarray, d: int) -> np.ndarray:
    vertices = np.asarray(vertices, dtype=float)
    if vertices.ndim != 2 or vertices.shape[1] != d:
        raise ValueError(f"vertices must be (K, {d}) to be drawn in {d} dimensions, got {vertices.shape}")
    return vertices


def plane(vertices: np.ndarray, ax: Axes) -> Axes:
    """Rows (K, 2) as labelled arrows from the origin, on the unit circle; ValueError for another d."""
    vertices = _vertices(vertices, 2)
    circle = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(circle), np.sin(circle), color=COLOURS["grey"], linewidth=0.8, linestyle=":")
    for k, (x, y) in enumerate(vertices):
        colour = _PALETTE[k % len(_PALETTE)]
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.8, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", xy=(x, y), xytext=(0, 0), arrowprops=arrow)
        ax.text(1.18 * x, 1.18 * y, f"$m_{{{k + 1}}}$", color=colour, ha="center", va="center")
    ax.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    return ax


def tetrahedron(vertices: np.ndarray, ax: Axes3D) -> Axes3D:
    """Rows (K, 3) as arrows from the origin, every pair joined by an edge, on axes with `projection="3d"`."""
    vertices = _vertices(vertices, 3)
    for a, b in combinations(vertices, 2):
        ax.plot(*np.stack([a, b], axis=1), color=COLOURS["grey"], linewidth=0.8, linestyle=":")
    for k, vertex in enumerate(vertices):
        colour = _PALETTE[k % len(_PALETTE)]
        ax.quiver(0, 0, 0, *vertex, color=colour, linewidth=1.8, arrow_length_ratio=0.12)
        ax.text(*(1.2 * vertex), f"$m_{{{k + 1}}}$", color=colour, ha="center", va="center")
    ticks = (-1, 0, 1)
    ax.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1), xticks=ticks, yticks=ticks, zticks=ticks)
    ax.set(xticklabels=(), yticklabels=(), zticklabels=())  # in this projection they run into each other
    ax.set_box_aspect((1, 1, 1))
    ax.view_init(elev=16, azim=75)
    return ax


def cosines(means: np.ndarray) -> np.ndarray:
    """Cosines (K, K) of class means (K, d) about their mean; NaN where one of them lies on it."""
    M = np.asarray(means, dtype=float)
    M = M - M.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        U = M / np.linalg.norm(M, axis=1, keepdims=True)
    return U @ U.T


def gram(G: np.ndarray, ax: Axes, *, values: bool = False) -> Axes:
    """A Gram matrix of unit vectors (K, K) as a heat map from -1 to 1; `values` writes the entries.

    The image is `ax.images[0]`, for a colour bar. Raises ValueError when G is not square or not finite.
    """
    G = np.asarray(G, dtype=float)
    if G.ndim != 2 or G.shape[0] != G.shape[1]:
        raise ValueError(f"a Gram matrix is square, got {G.shape}")
    if not np.isfinite(G).all():
        raise ValueError("the Gram matrix has entries that are not finite: a mean of norm zero has no cosine")
    ax.imshow(G, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    if values:
        for (i, j), value in np.ndenumerate(G):
            ink = "white" if abs(value) > 0.6 else COLOURS["black"]
            ax.text(j, i, f"{value:.2f}".replace("-", "−"), ha="center", va="center", color=ink, fontsize=7)
    ax.grid(False)
    ax.set(xticks=(), yticks=())
    return ax


def name_classes(
    classes: Sequence[int], ax: Axes, *, names: Sequence[str] | None = None, rows: bool = True
) -> Axes:
    """Number the columns of a heat map by these classes, and its rows too unless told not to, with their names.

    Of many classes about every tenth is numbered.
    """
    classes = list(classes)
    at = range(0, len(classes), -(-len(classes) // 12))
    numbers = [str(classes[i]) for i in at]
    ax.set_xticks(at, numbers)
    if rows:
        ax.set_yticks(at, [f"{names[classes[i]]} {classes[i]}" for i in at] if names else numbers)
    ax.tick_params(length=0, labelsize=7)
    return ax


def classes(points: pd.DataFrame, means: pd.DataFrame, ax: Axes, *, x: str, y: str) -> Axes:
    """Constructed features in two of their coordinates, coloured by class, the class means as rings.

    `points` and `means` have a column `label` and those named by `x` and `y`; KeyError when not.
    """
    for label, group in points.groupby("label"):
        ax.scatter(
            group[x], group[y], s=5, alpha=0.5, linewidth=0, color=_PALETTE[int(label) % len(_PALETTE)]
        )
    ax.scatter(
        means[x], means[y], s=46, facecolor="none", edgecolor=COLOURS["black"], linewidth=1.2, zorder=3
    )
    ax.set(aspect="equal", xlabel=x, ylabel=y)
    return ax


def floor(bound: pd.DataFrame, attained: pd.DataFrame, ax: Axes) -> Axes:
    """The attainable NC2 floor against feature dimension, with measured frames on it.

    bound: columns K, d, floor; attained: columns K, d, value, frame. A line a K, a marker a kind of frame.
    """
    colour = {K: _PALETTE[i % len(_PALETTE)] for i, K in enumerate(sorted(bound["K"].unique()))}
    for K, rows in bound.sort_values("d").groupby("K"):
        ax.plot(rows["d"], rows["floor"], color=colour[K], label=f"floor, K = {K}")
    handles = list(ax.get_legend_handles_labels()[0])
    for i, (frame, rows) in enumerate(attained.groupby("frame", sort=False)):
        marker = "sDo^xv"[i % 6]
        for K, part in rows.groupby("K"):
            if K not in colour:
                raise ValueError(f"{frame} is given for K = {K}, which has no floor")
            ax.plot(
                part["d"],
                part["value"],
                marker,
                color=colour[K],
                markersize=6,
                fillstyle="none",
                clip_on=False,
            )
        handles.append(
            Line2D(
                [], [], linestyle="none", marker=marker, color=COLOURS["black"], fillstyle="none", label=frame
            )
        )
    ax.legend(handles=handles, ncols=2)
    ax.set(
        xlabel="feature dimension d",
        ylabel="distance of the cosine Gram\nfrom the simplex (Frobenius)",
        ylim=(0, None),
    )
    return ax


def beside_formula(table: pd.DataFrame, ax: Axes, *, x: str) -> Axes:
    """Formulas as lines and what was measured as markers, one colour a series.

    table: the column named by `x`, and columns series, formula, measured. KeyError when one is absent,
    ValueError when a value is missing: a marker is never made up from the formula.
    """
    if table[["formula", "measured"]].isna().any(axis=None):
        raise ValueError("a formula or measured value is missing")
    for i, (series, rows) in enumerate(table.groupby("series", sort=False)):
        rows = rows.sort_values(x)
        colour = _PALETTE[i % len(_PALETTE)]
        ax.plot(rows[x], rows["formula"], color=colour)
        ax.plot(
            rows[x],
            rows["measured"],
            "o^sDv"[i % 5],
            color=colour,
            label=series,
            fillstyle="none",
            markersize=6,
        )
    ax.legend()
    return ax
