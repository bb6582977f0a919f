"""Figures of the double-descent chapter: error, memorised labels and collapse against a network's size.

What draws one panel takes the rows of one configuration (network and optimiser) or of one network;
`nclib.plots.mnist1d.panels` deals a table out to them.
"""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from nclib.plots.mnist1d import (
    CONFIGURATION,
    FRESH,
    NC1_LABEL,
    NC2_LABEL,
    TEST,
    TRAIN,
    TRAIN_CLEAN,
    K,
    Numbers,
    at_end,
    curve,
    nc2_references,
    of,
    overlay,
)
from nclib.plots.style import COLOURS, SHARES, interval, plain_log
from nclib.tables import select

NAMES = {"resnet1d": "ResNet1D", "cnn1d": "CNN1D", "sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
_OPTIMIZERS = {"sgd": (COLOURS["blue"], "o", "-"), "adam": (COLOURS["orange"], "s", "--")}
_OTHER = (COLOURS["green"], "^", ":")


def interpolation(training_error: pd.DataFrame, at_most: float) -> int | None:
    """Smallest size (column) whose mean training error over seeds is at most `at_most`; None without one."""
    mean = training_error.mean()
    return next((int(x) for x in sorted(mean.index) if mean[x] <= at_most), None)


def rank_correlation(error: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """Spearman correlation over sizes (columns), one value per seed (row)."""
    return error.rank(axis=1).T.corrwith(other.rank(axis=1).T)


def relabelling_offset(label_noise: float, noise_model: str, num_classes: int = K) -> float:
    r"""NC1 (trace ratio) of features that have collapsed on one of the two label sets, measured on the other.

    $1/(1-q)^2 - 1$, where a share q of the labels is redrawn over *all* classes: class means shrink by $1-q$
    and the total variance does not. A share p of surely wrong labels is $q = pK/(K-1)$.
    """
    q = label_noise
    if noise_model == "symmetric_excluding_true":
        q *= num_classes / (num_classes - 1)
    return 1 / (1 - q) ** 2 - 1


def uncentred_nc3(rho: Numbers, num_classes: int = K) -> Numbers:
    r"""NC3 with uncentred means of a classifier perfectly along the centred ones, $\sqrt{2K(1 - 1/\sqrt{1+\rho^2})}$.

    $\rho$: norm of $\mu_G$ over that of the centred means, to which $\mu_G$ is taken to be orthogonal.
    """
    return (2 * num_classes * (1 - 1 / (1 + rho**2) ** 0.5)) ** 0.5


def _theirs(published: pd.DataFrame | None, rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The published values of a metric for the configuration that rows are of; none when none are given."""
    if published is None:
        return pd.DataFrame(columns=["figure", "value", "width", "parameters"])
    return select(published, metric=metric, **{column: rows[column].iloc[0] for column in CONFIGURATION})


def title(rows: pd.DataFrame) -> str:
    """Network, optimiser if there is one, and epochs."""
    optimizers = list(rows.optimizer.unique())
    parts = [rows.architecture.iloc[0], *(optimizers if len(optimizers) == 1 else [])]
    epochs = ", ".join(str(e) for e in sorted(rows.epochs.unique()))
    return f"{', '.join(NAMES.get(part, part) for part in parts)}: {epochs} epochs"


def _finish(rows: pd.DataFrame, ax: Axes, **settings: object) -> Axes:
    """Title, labels, and a logarithmic axis of parameters, unless the settings say otherwise."""
    ax.set(**{"title": title(rows), "xscale": "log", "xlabel": "parameters"} | settings)
    ax.xaxis.set_minor_formatter(NullFormatter())
    return ax


def _by_optimizer(
    rows: pd.DataFrame,
    ax: Axes,
    metric: str,
    published: pd.DataFrame | None,
    x: Callable[[int], int] | None = None,
) -> None:
    """A metric of every optimiser of one network: against parameters, or against `x` of the width."""
    for optimizer in rows.optimizer.unique():
        mine = of(rows, optimizer=optimizer)
        colour, marker, line = _OPTIMIZERS.get(optimizer, _OTHER)
        label = NAMES.get(optimizer, optimizer)
        values = (
            at_end(mine, metric, by="width", **TRAIN).rename(columns=x) if x else curve(mine, metric, **TRAIN)
        )
        interval(values, ax, label=label, colour=colour, share=metric in SHARES, marker=marker, line=line)
        theirs = select(_theirs(published, mine, metric), figure="final")
        if len(theirs):
            at = theirs.width.map(x) if x else theirs.parameters
            label = f"{label}, published: 3000 epochs, 1 seed"
            ax.plot(at, theirs.value, marker, color=colour, mfc="none", ms=6.5, label=label)


# Panels of one configuration


def errors(rows: pd.DataFrame, ax: Axes, *, published: pd.DataFrame | None = None) -> Axes:
    """Training error on noisy labels and test errors against parameters, and where training interpolates."""
    overlay(_theirs(published, rows, "test_error"), ax, x="parameters")
    training = curve(rows, "error", **TRAIN)
    label = "training error, noisy labels"
    interval(training, ax, label=label, colour=COLOURS["grey"], share=True, marker="^", line="--")
    test, fresh = curve(rows, "error", **TEST), curve(rows, "error", **FRESH)
    label = "error on the 1,000 test samples"
    interval(test, ax, label=label, colour=COLOURS["sky"], share=True, marker="s", line=":")
    label = f"error on {int(rows.fresh_size.max()):,} fresh test samples"
    interval(fresh, ax, label=label, colour=COLOURS["blue"], share=True)
    for at_most, line in ((0.1, (0, (6, 3))), (0.01, (0, (1, 2)))):
        x = interpolation(training, at_most)
        if x is not None:
            label = f"mean training error first ≤ {at_most:.0%}"
            ax.axvline(x, color=COLOURS["black"], linestyle=line, linewidth=1, label=label)
    return _finish(rows, ax, ylabel="error", ylim=(0, None))


def nc1(rows: pd.DataFrame, ax: Axes, *, published: pd.DataFrame | None = None) -> Axes:
    """NC1 of the training features on noisy and on clean labels, with the offset that relabelling makes."""
    metric = "nc1_trace_ratio_weighted"
    overlay(_theirs(published, rows, "nc1_trace_ratio"), ax, x="parameters")
    noisy, clean = curve(rows, metric, **TRAIN), curve(rows, metric, **TRAIN_CLEAN)
    interval(noisy, ax, label="on noisy labels", colour=COLOURS["blue"], log=True)
    interval(clean, ax, label="on clean labels", colour=COLOURS["green"], log=True, marker="s", line="--")
    offset = relabelling_offset(rows.label_noise.iloc[0], rows.noise_model.iloc[0])
    if offset > 0:
        label = f"collapsed on the other label set: {offset:.4f}"
        ax.axhline(offset, color=COLOURS["black"], linestyle=":", linewidth=1.2, label=label)
    _finish(rows, ax, ylabel=NC1_LABEL, yscale="log")
    plain_log(ax.yaxis)
    return ax


def nc3(rows: pd.DataFrame, ax: Axes, *, published: pd.DataFrame | None = None) -> Axes:
    r"""NC3 on the study's scale, with its uncentred and with centred means, and what not centring alone adds.

    With unit rows the squared distance is $2\sum_c(1 - \cos_c)$: centred means give $\sqrt{2K(1 - \overline{\cos})}$.
    """
    overlay(_theirs(published, rows, "nc3_uncentred"), ax, x="parameters", figures=["final"])
    uncentred = curve(rows, "nc3_rows_uncentred", **TRAIN)
    interval(uncentred, ax, label="uncentred means (the study's)", colour=COLOURS["blue"])
    alone, label = (
        uncentred_nc3(curve(rows, "global_mean_ratio", **TRAIN)),
        "uncentred means, if perfectly aligned",
    )
    interval(alone, ax, label=label, colour=COLOURS["pink"], marker="^", line=":")
    centred = (2 * K * curve(rows, "nc3_cosine", **TRAIN)) ** 0.5
    interval(centred, ax, label="centred means", colour=COLOURS["green"], marker="s", line="--")
    label = r"unrelated directions: $\sqrt{2K}$"
    ax.axhline((2 * K) ** 0.5, color=COLOURS["black"], linestyle=":", linewidth=1.2, label=label)
    return _finish(rows, ax, ylabel="NC3: distance of unit rows", ylim=(0, 5))


def error_against_nc1(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Error on fresh samples against NC1 on noisy labels, one point a width, joined in order of width."""
    error = at_end(rows, "error", by="width", **FRESH)
    collapse = at_end(rows, "nc1_trace_ratio_weighted", by="width", **TRAIN)
    x, y = collapse.mean(), error.mean()
    ax.plot(x, y, "-", color=COLOURS["grey"], linewidth=0.8, zorder=1)
    for seed in error.index:
        ax.plot(collapse.loc[seed], error.loc[seed], ".", color=COLOURS["sky"], label="one seed")
    ax.plot(
        x,
        y,
        "o",
        color=COLOURS["blue"],
        label=f"mean over seeds (n = {len(error)}); the number is the width w",
    )
    ax.set_yscale("log")
    for width, (right, up) in zip(
        x.index, _outwards(np.log(x.to_numpy()), np.log(y.to_numpy())), strict=True
    ):
        ax.annotate(
            str(width), (x[width], y[width]), xytext=(10 * right, 10 * up), textcoords="offset points",
            fontsize=8, ha="center", va="center",
        )  # fmt: skip
    rho = rank_correlation(error, collapse)
    found = f"Spearman ρ = {rho.mean():.2f} ({rho.min():.2f} to {rho.max():.2f} by seed)"
    _finish(
        rows,
        ax,
        title=f"{title(rows)}\n{found}",
        xlabel=f"{NC1_LABEL}, noisy labels",
        ylabel="error on fresh samples",
    )
    plain_log(ax.xaxis)
    plain_log(ax.yaxis)
    return ax


def _outwards(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each point of a path the direction of length 1 across it, to the side that its neighbours are not on."""
    points = np.column_stack([x, y]) / np.maximum(np.ptp([x, y], axis=1), 1e-9)
    around = np.vstack([points[:1], points, points[-1:]])
    before, after = around[:-2], around[2:]
    along = after - before
    across = np.column_stack([-along[:, 1], along[:, 0]])
    length = np.linalg.norm(across, axis=1, keepdims=True)
    across = np.where(length > 0, across / np.where(length > 0, length, 1), [0.0, 1.0])
    away = ((points - (before + after) / 2) * across).sum(1, keepdims=True)
    return np.where(away < 0, -across, across)


# Panels of one network


def memorisation(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Of the training samples with a wrong label: the share predicted as labelled, and as they truly are."""
    kinds = (("noisy", "the wrong label", COLOURS["orange"]), ("clean", "the true label", COLOURS["blue"]))
    for optimizer in rows.optimizer.unique():
        _, marker, line = _OPTIMIZERS.get(optimizer, _OTHER)
        mine = of(rows, optimizer=optimizer)
        for labels, what, colour in kinds:
            share = 1 - curve(mine, "error", split="train_mislabelled", labels=labels, layer="features")
            label = f"predicted as {what}, {NAMES.get(optimizer, optimizer)}"
            interval(share, ax, label=label, colour=colour, share=True, line=line, marker=marker)
    return _finish(rows, ax, ylabel="share of mislabelled samples", ylim=(0, 1.02))


def by_optimizer(
    rows: pd.DataFrame, ax: Axes, *, metric: str, label: str, log: bool = False, **where: object
) -> Axes:
    """A metric of every optimiser of one network at the last epoch against parameters; `where` says measured where."""
    for optimizer in rows.optimizer.unique():
        colour, marker, line = _OPTIMIZERS.get(optimizer, _OTHER)
        values = curve(of(rows, optimizer=optimizer), metric, **where)
        name = NAMES.get(optimizer, optimizer)
        share = metric in SHARES
        interval(
            values,
            ax,
            label=name,
            colour=colour,
            log=log and not share,
            share=share,
            marker=marker,
            line=line,
        )
    _finish(rows, ax, ylabel=label)
    if log:
        ax.set_yscale("log")
        plain_log(ax.yaxis)
    else:
        ax.set_ylim(0, None)
    return ax


def spikes(table: pd.DataFrame, at_least: float = 0.02) -> pd.DataFrame:
    """Runs whose training error rose by `at_least` from their last but one measurement to the last: one row a run."""
    rows = select(table, metric="error", **TRAIN).sort_values("epoch")
    last_two = rows.groupby("run").tail(2).groupby("run")
    found = last_two.agg(
        **{name: (name, "first") for name in (*CONFIGURATION, "width", "seed")},
        before=("value", "first"), epoch_before=("epoch", "first"),
        last=("value", "last"), epoch=("epoch", "last"),
    )  # fmt: skip
    return found[found["last"] - found.before >= at_least]


def nc2(
    rows: pd.DataFrame, ax: Axes, *, floor: Callable[[int, int], float], published: pd.DataFrame | None = None
) -> Axes:
    """NC2 in the study's convention against the feature dimension: w (ResNet1D) or 2w (CNN1D); its floor."""
    times = {"resnet1d": 1, "cnn1d": 2}[rows.architecture.iloc[0]]
    _by_optimizer(rows, ax, "nc2_gram_frobenius", published, x=lambda width: times * width)
    octaves = math.log2(max(times * int(rows.width.max()), 4))
    nc2_references(sorted({round(2**e) for e in np.arange(1, octaves + 0.01, 0.125)}), ax, floor=floor)
    label = f"feature dimension d = {'2w' if times == 2 else 'w'}"
    _finish(rows, ax, ylabel=NC2_LABEL, ylim=(0, None), xlabel=label)
    ax.set_xticks([2**k for k in range(1, 8)], [str(2**k) for k in range(1, 8)])
    ax.minorticks_off()
    return ax


def nc4(rows: pd.DataFrame, ax: Axes, *, published: pd.DataFrame | None = None) -> Axes:
    """NC4: share of training samples on which the classifier and the nearest class mean disagree."""
    _by_optimizer(rows, ax, "nc4_mismatch", published)
    return _finish(rows, ax, ylabel="NC4: share of disagreement", ylim=(0, None))
