"""Figures of the representations chapter that take CKA apart: flattened, by label, by class, and beside collapse."""

import re
from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from nclib.plots.double_descent import relabelling_offset
from nclib.plots.representations import predicted
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

FLATTENED = f"{BIASED}_flattened"
PERMUTED = f"{BIASED}_permuted"


def distinct(rows: pd.DataFrame) -> list[str]:
    """The layers of A without the features, which are the last block averaged over positions."""
    return [name for name in layers(rows) if name != "features"]


def _pairs(names: Iterable[str]) -> list[str]:
    return [f"{name}|{name}" for name in names]


def _by_layer(names: list[str], ax: Axes, *, title: str, label: str = "CKA", low: float = -0.05) -> Axes:
    ax.set_xticks(range(len(names)), names)
    ax.set(title=title, ylabel=label, ylim=(low, 1.08), xlim=(-0.55, len(names) - 0.45))
    ax.grid(visible=False, axis="x")
    return ax


def n_in_title(ax: Axes) -> Axes:
    """Say n once, in the title, where all that is drawn has the same: panels of different n can share a legend."""
    handles, labels = ax.get_legend_handles_labels()
    found = {match for label in labels for match in re.findall(r" \((n = \d+)(?: pairs)?\)$", label)}
    if len(found) == 1:
        for handle, label in zip(handles, labels, strict=True):
            handle.set_label(re.sub(r" \(n = \d+(?: pairs)?\)$", "", label))
        title = ax.get_title(mpl.rcParams["axes.titlelocation"])
        ax.set_title(f"{title}, {found.pop()}")
    return ax


def estimators(
    rows: pd.DataFrame, ax: Axes, *, null: pd.DataFrame | None = None, split: str = "test"
) -> Axes:
    """Biased and debiased CKA of the same layer of two trained networks, with a null of unrelated samples beside it.

    Averaged over positions, with the recorded null of permuted samples. With `null`, a frame of columns layer, seed,
    biased and debiased, flattened instead, and the null is the one given.
    """
    names = distinct(rows)
    metric = BIASED if null is None else FLATTENED
    measured = {"biased": metric, "debiased": f"{metric}_debiased"}
    for name, colour, marker, shift in (("biased", "orange", "s", -0.27), ("debiased", "blue", "o", -0.09)):
        values = ends(rows, _pairs(names), measured[name], split)
        marks(values, ax, label=f"trained, {name}", colour=COLOURS[colour], marker=marker, shift=shift)
    for name, colour, marker, shift in (("biased", "orange", "s", 0.09), ("debiased", "blue", "o", 0.27)):
        if null is None:
            values = ends(
                rows, _pairs(names), PERMUTED if name == "biased" else f"{PERMUTED}_debiased", split
            )
        else:
            values = [select(null, layer=layer).set_index("seed")[name] for layer in names]
        label = f"unrelated samples, {name}"
        marks(values, ax, label=label, colour=COLOURS[colour], marker=marker, shift=shift, filled=False)
    title = "Averaged over positions" if null is None else "Flattened"
    return _by_layer(names, ax, title=f"{title}, {rows.epochs.iloc[0]} epochs")


def label_parts(rows: pd.DataFrame, ax: Axes) -> Axes:
    """CKA of two networks on correctly and on mislabelled training points by themselves, after and before training."""
    names = distinct(rows)
    for split, label, colour, marker, shift in (
        ("train_correct", "correctly labelled", "blue", "o", -0.27),
        ("train_mislabelled", "mislabelled", "orange", "s", 0.09),
    ):
        for trained, step in ((True, 0.0), (False, 0.18)):
            values = ends(rows, _pairs(names), split=split, trained=trained)
            stage = f"{rows.epochs.iloc[0]} epochs" if trained else "untrained"
            marks(
                values, ax, label=f"{label}, {stage}", colour=COLOURS[colour], marker=marker,
                shift=shift + step, filled=trained,
            )  # fmt: skip
    title = f"Widths {rows.width.iloc[0]} and {rows.width_b.iloc[0]}"
    return n_in_title(_by_layer(names, ax, title=title))


def label_alignment(rows: pd.DataFrame, ax: Axes) -> Axes:
    """CKA of A's features with one-hot labels over training: noisy and true ones of training points, true of test.

    The line is where features that are perfectly collapsed on one of the two label sets of the training points
    stand with the other.
    """
    for split, labels, label, colour, marker, line in (
        ("train", "noisy", "training points, noisy labels", "orange", "s", "--"),
        ("train", "clean", "training points, true labels", "blue", "o", "-"),
        ("test", "clean", "test points, true labels", "green", "^", "-."),
    ):
        values = by_epoch(rows, "features|labels", DEBIASED, split, labels)
        values = values[[epoch for epoch in values if epoch >= 1]]
        interval(values, ax, label=label, colour=COLOURS[colour], marker=marker, line=line)
    noise = rows.label_noise.iloc[0]
    if noise > 0:
        other = 1 / (1 + relabelling_offset(noise, rows.noise_model.iloc[0]))
        ax.axhline(other, color=COLOURS["grey"], ls=":", lw=1.3, label="collapsed on the other labels")
    ax.set(title=f"Width {rows.width.iloc[0]}, {noise:.0%} noise", ylim=(-0.05, 1.05))
    ax.set_ylabel("CKA with one-hot labels")
    return n_in_title(over_epochs(ax))


def training_loss(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Cross-entropy of network A on all training points with the labels trained on, against the epoch."""
    values = by_epoch(rows, "A", "loss", "train")
    values = values[[epoch for epoch in values if epoch >= 1]]
    interval(values, ax, label="training loss", colour=COLOURS["black"], log=True, marker="x")
    ax.set(title="Training loss", ylabel="cross-entropy", yscale="log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    return over_epochs(ax)


PARTS = (
    ("all of it", DEBIASED, "blue", "o"),
    ("class means", "cka_class_means", "green", "^"),
    ("residuals", "cka_residuals_debiased", "orange", "s"),
    ("Procrustes", "procrustes_similarity", "pink", "D"),
)
"""Label, metric, colour and marker of what two networks' layers are compared by."""


def parts(rows: pd.DataFrame, ax: Axes, *, split: str, trained: bool = True) -> Axes:
    """CKA of two networks' layers, of their class means and of their residuals, and their Procrustes similarity."""
    names = distinct(rows)
    for i, (label, metric, colour, marker) in enumerate(PARTS):
        values = ends(rows, _pairs(names), metric, split, trained=trained)
        marks(values, ax, label=label, colour=COLOURS[colour], marker=marker, shift=-0.27 + 0.18 * i)
    stage = f"{rows.epochs.iloc[0]} epochs" if trained else "untrained"
    return _by_layer(names, ax, title=f"{split} points, {stage}", label="similarity")


def against_prediction(groups: dict[str, pd.DataFrame], ax: Axes, *, split: str) -> Axes:
    """Measured CKA of the features against what NC1 predicts, a path over epochs per group, ending in a large mark.

    A point is the mean over pairs at one epoch; the last one carries the 95 % t-intervals of both. On the
    diagonal NC1 explains CKA.
    """
    styles = zip(("blue", "orange", "green", "pink", "amber"), "osD^v", strict=True)
    for (name, rows), (colour, marker) in zip(groups.items(), styles, strict=False):
        measured, expected = (
            values[[epoch for epoch in values if epoch >= 1]]
            for values in (by_epoch(rows, "features|features", split=split), predicted(rows, split))
        )
        ax.plot(expected.mean(), measured.mean(), "-", marker=".", color=COLOURS[colour], lw=1, ms=4)
        last = measured.columns.max()
        error = [half_width(values[last]) for values in (expected, measured)]
        wide, high = (None if np.isnan(half) else half for half in error)
        ax.errorbar(
            expected[last].mean(), measured[last].mean(), high, wide, fmt=marker, color=COLOURS[colour],
            ms=7, mec=COLOURS["black"], capsize=3, zorder=4, label=f"{name} (n = {len(measured)})",
        )  # fmt: skip
    ax.plot([0, 1], [0, 1], "--", color=COLOURS["grey"], linewidth=1, label="measured = predicted")
    ax.set(title=f"{split} points", xlabel="CKA predicted from NC1", ylabel="CKA measured")
    ax.set(xlim=(0, 1.03), ylim=(0, 1.03), aspect="equal")
    return ax
