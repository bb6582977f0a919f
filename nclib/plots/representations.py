"""Figures of the representations chapter: CKA across architectures, epochs and seeds, and what bounds it."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nclib.plots.mnist1d import K, Numbers
from nclib.plots.representations_shared import (
    BIASED,
    DEBIASED,
    by_epoch,
    ends,
    layers,
    marks,
    over_epochs,
)
from nclib.plots.style import COLOURS, half_width, interval
from nclib.tables import select

_STYLES = {
    "L0": (COLOURS["blue"], "o", "-"),
    "L1": (COLOURS["orange"], "s", "--"),
    "L2": (COLOURS["green"], "^", "-."),
    "L3": (COLOURS["pink"], "D", ":"),
}


def pairs_of(table: pd.DataFrame, width: int, width_b: int) -> pd.DataFrame:
    """The rows of the pairs of networks of these two widths. Raises KeyError when there are none."""
    rows = select(table, width=width, width_b=width_b)
    if rows.empty:
        raise KeyError(f"no pair of networks of widths {width} and {width_b} in this table")
    return rows


def matrix(
    rows: pd.DataFrame, stage: str, *, metric: str = DEBIASED, split: str = "test"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean over seeds and half-width of its interval: CKA of every layer of A (rows) with every one of B.

    `stage` is "untrained" (epoch 0), "trained" (the last epoch) or "gained", the difference of the two by seed.
    Raises KeyError for another stage.
    """
    names = layers(rows)
    mean, half = (pd.DataFrame(index=names, columns=names, dtype=float) for _ in range(2))
    for a in names:
        for b in names:
            values = by_epoch(rows, f"{a}|{b}", metric, split)
            first, last = values[0], values[values.columns.max()]
            at = {"untrained": first, "trained": last, "gained": last - first}[stage]
            mean.loc[a, b], half.loc[a, b] = at.mean(), half_width(at)
    return mean, half


def heat_map(
    mean: pd.DataFrame,
    ax: Axes,
    *,
    title: str,
    rows: str,
    columns: str,
    half: pd.DataFrame | None = None,
    signed: bool = False,
) -> Axes:
    """A matrix of CKA (0 to 1, or -1 to 1 when signed), each value in its cell, its half-width beneath when given."""
    ax.imshow(mean.to_numpy(), cmap="PuOr" if signed else "cividis", vmin=-1 if signed else 0, vmax=1)
    for i in range(len(mean)):
        for j in range(mean.shape[1]):
            value = mean.iloc[i, j]
            text = f"{value:+.2f}" if signed else f"{value:.2f}"
            if half is not None and math.isfinite(half.iloc[i, j]):
                text += f"\n± {half.iloc[i, j]:.2f}"
            dark = abs(value) > 0.6 if signed else value < 0.55
            ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    ax.set_xticks(range(mean.shape[1]), list(mean.columns), fontsize=8.5)
    ax.set_yticks(range(len(mean)), list(mean.index), fontsize=8.5)
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set(xlabel=columns, ylabel=rows, title=title)
    return ax


def published_matrix(published: pd.DataFrame) -> pd.DataFrame:
    """The published matrix of part A, layers of the narrow network by layers of the wide one."""
    rows = select(published, part="A_cross_architecture_w8_rows_w64_columns")
    return rows.pivot(index="layer_or_row", columns="column_or_epoch", values="value")


def drift(
    rows: pd.DataFrame,
    ax: Axes,
    *,
    reference: int | str,
    published: pd.DataFrame | None = None,
    split: str = "test",
) -> Axes:
    """CKA of each layer of A with itself at the reference epoch, or "previous" measurement, against the epoch."""
    for (code, (colour, marker, line)), layer in zip(_STYLES.items(), layers(rows), strict=False):
        values = by_epoch(rows, f"{layer}@{reference}|{layer}", split=split)
        values = values[[epoch for epoch in values if epoch >= 1]]
        interval(values, ax, label=layer, colour=colour, marker=marker, line=line)
        if published is not None:
            theirs = select(published, part="B_drift_from_epoch_1_w32", layer_or_row=code)
            epochs = theirs.column_or_epoch.astype(int)
            ax.plot(
                epochs,
                theirs.value,
                marker,
                color=colour,
                mfc="none",
                ms=6,
                label=f"published, {code}",
                zorder=3,
            )
    since = {0: "its initialisation", "previous": "itself one measurement before"}
    since = since.get(reference, f"itself after epoch {reference}")
    ax.set(title=f"Against {since}", ylabel="CKA", ylim=(-0.05, 1.05))
    return over_epochs(ax)


def across_seeds(
    rows: pd.DataFrame,
    ax: Axes,
    *,
    shared: pd.DataFrame | None = None,
    null: bool = False,
    published: pd.DataFrame | None = None,
    split: str = "test",
) -> Axes:
    """CKA of the same layer in two networks that differ in their seeds alone, trained and untrained.

    Beside them: pairs that `shared` their initial weights, the `null` of trained pairs with the samples of one
    network permuted, and the published values.
    """
    names = layers(rows)
    pairs = [f"{name}|{name}" for name in names]
    shown = [(f"trained, {rows.epochs.iloc[0]} epochs", "blue", "o", ends(rows, pairs, split=split))]
    shown.append(("untrained", "grey", "s", ends(rows, pairs, split=split, trained=False)))
    if shared is not None:
        shown.insert(
            0, ("trained from the same weights, other order", "green", "^", ends(shared, pairs, split=split))
        )
    if null:
        permuted = ends(rows, pairs, f"{BIASED}_permuted_debiased", split)
        shown.append(("trained, samples of B permuted", "pink", "v", permuted))
    width = 0.12 if len(shown) < 4 else 0.16
    first = -width * (len(shown) - (published is None)) / 2
    for i, (label, colour, marker, values) in enumerate(shown):
        marks(values, ax, label=label, colour=COLOURS[colour], marker=marker, shift=first + width * i)
    if published is not None:
        theirs = select(published, part="C_cross_seed_w32").set_index("layer_or_row")
        ax.errorbar(
            np.arange(len(theirs)) - first,
            theirs.value,
            theirs.sd,
            fmt="D",
            color=COLOURS["orange"],
            mfc="none",
            capsize=3,
            ms=6,
            label="published, trained, 2000 epochs, 3 dependent pairs, ± SD",
        )
    ax.set_xticks(range(len(names)), names)
    ax.set(ylabel="CKA", ylim=(-0.05 if null else 0, 1.1), xlim=(-0.5, len(names) - 0.5))
    ax.grid(visible=False, axis="x")
    return ax


def bias(table: pd.DataFrame, ax: Axes) -> Axes:
    """Biased less debiased CKA of every pair of layers at the last epoch, against the debiased value."""
    between = table.layer.str.contains("|", regex=False) & ~table.layer.str.contains("@", regex=False)
    rows = table[(table.epoch == table.epochs) & between]
    for split, samples, colour, marker in (("train", "4,000", "blue", "o"), ("test", "1,000", "orange", "x")):
        both = select(rows, split=split).pivot_table(
            index=["run", "layer"], columns="metric", values="value"
        )[[BIASED, DEBIASED]]
        label = f"{split} points, {samples}"
        ax.plot(
            both[DEBIASED],
            both[BIASED] - both[DEBIASED],
            marker,
            color=COLOURS[colour],
            ms=4,
            alpha=0.7,
            label=label,
        )
    ax.axhline(0, color=COLOURS["black"], linewidth=1)
    title = f"Layers of two networks, {rows.epochs.iloc[0]} epochs"
    ax.set(title=title, xlabel="debiased CKA", ylabel="biased − debiased CKA")
    ax.legend()
    return ax


def bias_of_noise(values: pd.DataFrame, ax: Axes) -> Axes:
    """CKA of independent Gaussian features against their number p: columns p, n, biased, debiased."""
    for name, colour, marker, line in (("biased", "orange", "s", "--"), ("debiased", "blue", "o", "-")):
        ax.plot(values.p, values[name], line, marker=marker, color=COLOURS[colour], label=name)
    ax.set(
        title=f"Independent noise, {values.n.iloc[0]:,} points",
        xlabel="features p",
        ylabel="CKA",
        xscale="log",
    )
    ax.set_ylim(-0.05, 1.05)
    ax.legend()
    return ax


def collapse_limited(t: Numbers, p: int, num_classes: int = K) -> Numbers:
    r"""Factor $f(t) = 1 + \frac{K-1}{p}((1+t)^2 - 1)$ by which residuals of NC1 t lower CKA.

    $\mathrm{CKA} = 1/\sqrt{f(t_A)f(t_B)}$ for class means that form a simplex (in either network any rotation
    of it) and isotropic residuals in p dimensions that the two networks do not share: $\|\Sigma_{XY}\|^2$ keeps
    only the means, $\|\Sigma_{XX}\|^2$ the residuals too.
    """
    return 1 + (num_classes - 1) / p * ((1 + t) ** 2 - 1)


def predicted(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """The CKA of A's and B's features that their recorded NC1 on this split allows, seeds by epochs."""
    widths = {"A": int(rows.width.iloc[0]), "B": int(rows.width_b.iloc[0])}
    if rows.architecture.iloc[0] == "cnn1d":
        widths = {network: 2 * width for network, width in widths.items()}
    factors = [
        collapse_limited(by_epoch(rows, network, "nc1_trace_ratio", split), p)
        for network, p in widths.items()
    ]
    return 1 / (factors[0] * factors[1]) ** 0.5


def collapse_limit(rows: pd.DataFrame, ax: Axes, *, split: str, published: float | None = None) -> Axes:
    """Measured CKA of two seeds' features over training, beside what their collapse alone would make it."""
    last = layers(rows)[-1]
    measured = by_epoch(rows, f"{last}|{last}", split=split)
    expected = predicted(rows, split)
    for values, label, colour, marker, line in (
        (measured, "measured, debiased", COLOURS["blue"], "o", "-"),
        (expected, "predicted from NC1 alone", COLOURS["orange"], "s", "--"),
    ):
        interval(
            values[[epoch for epoch in values if epoch >= 1]],
            ax,
            label=label,
            colour=colour,
            marker=marker,
            line=line,
        )
    if published is not None:
        label = "published (biased, 500 training points)"
        ax.plot([2000], [published], "D", color=COLOURS["black"], mfc="none", ms=6, label=label)
    labels = "noisy" if split == "train" else "clean"
    title = f"{split} points, NC1 on {labels} labels"
    ax.set(title=title, ylabel="CKA of features", ylim=(0, 1.05))
    return over_epochs(ax)


def colour_bar(ax: Axes) -> None:
    """The scale of the heat maps, to the right of the axis."""
    plt.colorbar(ax.images[0], ax=ax, fraction=0.046, pad=0.04, label="CKA")
