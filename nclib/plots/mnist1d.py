"""What the figures of the MNIST-1D chapters share: reading the table, published values, references, panels."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nclib.plots.style import COLOURS, figure, legend_below
from nclib.tables import select

Numbers = TypeVar("Numbers", float, pd.Series, pd.DataFrame)
"""One number, or a pandas object full of them: what a formula takes it returns."""
CONFIGURATION = ("architecture", "optimizer")
K = 10
"""Classes of MNIST-1D."""
TRAIN = {"split": "train", "labels": "noisy", "layer": "features"}
TRAIN_CLEAN = TRAIN | {"labels": "clean"}
TEST = {"split": "test", "labels": "clean", "layer": "features"}
FRESH = TEST | {"split": "fresh"}
NC1_LABEL = r"NC1: $\mathrm{Tr}\,\Sigma_W\,/\,\mathrm{Tr}\,\Sigma_B$"
NC2_LABEL = r"NC2: $\|\cos\,\mathrm{Gram} - \mathrm{simplex}\|_F$"
PUBLISHED = {
    "final": ("published: 3000 epochs, 1 seed", "o"),
    "earlier_run": ("published, earlier run of the same code and seed", "D"),
}
"""Label and marker of the study's figure, and of an earlier figure of its."""


def of(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows of one configuration; KeyError when there are none."""
    rows = select(table, **where)
    if rows.empty:
        raise KeyError(f"this table has no run with {', '.join(f'{k} = {v}' for k, v in where.items())}")
    return rows


def at_end(rows: pd.DataFrame, metric: str, *, by: str, **where: object) -> pd.DataFrame:
    """A metric at each run's last epoch as its parameters have it, seeds by the values of the column `by`.

    Raises KeyError when no run has it: a missing metric is an error, not an empty curve.
    """
    found = select(rows, metric=metric, **where)
    found = found[found.epoch == found.epochs]
    if found.empty:
        raise KeyError(f"no run of this table has {metric} at its last epoch with {where}")
    return found.pivot(index="seed", columns=by, values="value")


def curve(rows: pd.DataFrame, metric: str, **where: object) -> pd.DataFrame:
    """A metric of one configuration at the last epoch, seeds by number of parameters as recorded."""
    parameters = select(rows, metric="parameters").groupby("width").value.first().astype(int)
    return at_end(rows, metric, by="width", **where).rename(columns=parameters.to_dict())


def panels(
    table: pd.DataFrame,
    draw: Callable[..., Axes],
    *,
    by: tuple[str, ...] = CONFIGURATION,
    height: float = 3.1,
    entries: int = 2,
    **options: object,
) -> Figure:
    """`draw` on one panel per combination of the columns `by`, in the order of the runs, two a row, one legend below.

    Panels share their axes; `options` go to `draw`, `entries` is the number of columns of the legend.
    """
    cells = [dict(zip(by, values, strict=True)) for values in table[[*by]].drop_duplicates().to_numpy()]
    columns = min(2, len(cells))
    fig, axes = figure(
        -(-len(cells) // columns), columns, width=3.7 * columns, height=height, sharex=True, sharey=True
    )
    for ax, where in zip(axes, cells, strict=False):
        draw(of(table, **where), ax, **options)
        ax.label_outer()
    for ax in axes[len(cells) :]:
        ax.set_visible(False)
    legend_below(axes[: len(cells)], entries)
    return fig


def overlay(points: pd.DataFrame, ax: Axes, *, x: str, figures: Iterable[str] = tuple(PUBLISHED)) -> Axes:
    """Published values as open markers: columns `figure`, `value` and the one that `x` names."""
    for source in figures:
        label, marker = PUBLISHED[source]
        here = select(points, figure=source)
        if len(here):
            style = {"color": COLOURS["orange"], "mfc": "none", "ms": 5.5, "mew": 1.1}
            ax.plot(here[x], here.value, marker, label=label, zorder=3, **style)
    return ax


def nc2_references(dimensions: Iterable[int], ax: Axes, *, floor: Callable[[int, int], float]) -> Axes:
    """The least NC2 that `floor(K, d)` allows, and that of random class means, over the given dimensions."""
    d = list(dimensions)
    label = "attainable floor in d dimensions"
    ax.plot(d, [floor(K, value) for value in d], color=COLOURS["black"], linewidth=1.3, label=label)
    ax.plot(
        d,
        [random_means_nc2(v) for v in d],
        ":",
        color=COLOURS["grey"],
        linewidth=1.3,
        label="random class means",
    )
    return ax


def random_means_nc2(d: int, num_classes: int = K, draws: int = 200) -> float:
    """NC2 in the study's convention of Gaussian class means in d dimensions: root mean square over draws."""
    U = np.random.default_rng(0).standard_normal((draws, num_classes, d))
    U -= U.mean(axis=1, keepdims=True)
    U /= np.linalg.norm(U, axis=2, keepdims=True)
    simplex = (num_classes * np.eye(num_classes) - 1) / (num_classes - 1)
    return float(np.sqrt(np.square(U @ U.transpose(0, 2, 1) - simplex).sum((1, 2)).mean()))
