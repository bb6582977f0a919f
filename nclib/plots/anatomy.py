"""Figures of where collapse happens: layer by layer, on test images, and which measure falls first."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nclib import tables
from nclib.plots.style import COLOURS, SHARES, interval, mean_and_half
from nclib.plots.terminal_phase import LINES, MARKERS, curves, down_to_zero, epochs, legend, log_axis
from nclib.plots.trajectories import at_epoch, drops, one_sample, onset, seeds_by_epochs

# Layer by layer


def hidden(table: pd.DataFrame, metric: str) -> tuple[list[str], int, int]:
    """The hidden layers with this metric, input to output, and the first and last epoch that they have it at.

    Raises KeyError when there are none.
    """
    rows = tables.select(table, metric=metric, split="train", labels="clean")
    rows = rows[rows.layer != "features"]
    if rows.empty:
        raise KeyError(f"the table holds no {metric!r} of hidden layers")
    return list(dict.fromkeys(rows.layer)), int(rows.epoch.min()), int(rows.epoch.max())


def by_layer(table: pd.DataFrame, metric: str, epoch: int, *, split: str, names: list[str]) -> pd.DataFrame:
    """A metric at one epoch, a row a seed and a column a layer of these names."""
    return pd.DataFrame({name: at_epoch(table, metric, epoch, split=split, layer=name) for name in names})


def layers(table: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """A metric layer by layer at the first and last epoch with all layers measured, train and test."""
    names, first, last = hidden(table, metric)
    names = [*names, "features"]
    log = metric.startswith(("nc1", "nc2"))
    for epoch, colour in ((first, "sky"), (last, "blue")):
        for split in LINES:
            values = by_layer(table, metric, epoch, split=split, names=names)
            interval(
                values.set_axis(range(len(names)), axis=1), ax, label=f"epoch {epoch}, {split}",
                colour=COLOURS[colour], log=log, share=metric in SHARES, marker=MARKERS[split], line=LINES[split],
            )  # fmt: skip
    if log:
        log_axis(ax)
    ax.set_xticks(range(len(names)), names, rotation=30)
    ax.set(xlabel="layer, input to output", ylabel=tables.METRICS[metric])
    legend(ax, 1)
    return ax


def over_depth(table: pd.DataFrame, metric: str, *, split: str = "train") -> pd.DataFrame:
    """A metric at the last epoch over its value one hidden layer earlier, a row a seed and a column a step."""
    names, _, last = hidden(table, metric)
    values = by_layer(table, metric, last, split=split, names=names)
    return pd.DataFrame({f"{a} to\n{b}": values[b] / values[a] for a, b in pairwise(names)})


def over_time(table: pd.DataFrame, metric: str, *, split: str = "train") -> pd.DataFrame:
    """A metric at the last over the first epoch with all layers measured, a row a seed and a column a hidden layer."""
    names, first, last = hidden(table, metric)
    before, after = (by_layer(table, metric, e, split=split, names=names) for e in (first, last))
    return after / before


def marks(values: dict[str, pd.DataFrame], ax: Axes) -> Axes:
    """Positive numbers by seed (rows), one marker a series: geometric mean, 95 % t-interval of the logarithm, seeds.

    A column that some seed lacks has its seeds' points and no mean.
    """
    columns = list(next(iter(values.values())).columns)
    kinds = zip((COLOURS["blue"], COLOURS["orange"]), MARKERS.values(), strict=True)
    for i, ((label, frame), (colour, marker)) in enumerate(zip(values.items(), kinds, strict=False)):
        x = np.arange(len(columns)) + 0.24 * (i - (len(values) - 1) / 2)
        logs = np.log(frame.astype(float))
        centre, half = (part.where(logs.notna().all()) for part in mean_and_half(logs))
        mean, low, high = np.exp(centre), np.exp(centre - half), np.exp(centre + half)
        ax.errorbar(
            x, mean, (mean - low, high - mean), fmt=marker, color=colour, capsize=3, ms=6,
            label=f"{label} (n = {len(frame)})",
        )  # fmt: skip
        for seed in frame.index:
            ax.plot(x + 0.1, frame.loc[seed, columns], ".", color=colour, ms=4, alpha=0.7)
    log_axis(ax)
    ax.set_xticks(range(len(columns)), columns, fontsize=8.5)
    ax.grid(visible=False, axis="x")
    legend(ax)
    return ax


# Test images


def variability_ratio(table: pd.DataFrame, ax: Axes) -> Axes:
    """Class-distance normalised variance of test over train, within each seed, and the claimed factor ten."""
    ratio = seeds_by_epochs(table, "cdnv", split="test") / seeds_by_epochs(table, "cdnv", split="train")
    interval(ratio, ax, label="test / train", colour=COLOURS["green"], log=True)
    ax.axhline(10, color=COLOURS["black"], linewidth=0.9, linestyle="--", label="ten times")
    log_axis(ax)
    ax.set_ylabel("CDNV of test over train (ratio)")
    legend(ax)
    return epochs(table, ax)


def about_own_means(table: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """One measure of each of NC1 to NC4: training features about training means, test features about test means."""
    labels = {
        "nc1_trace_ratio": "NC1: Tr Σ_W / Tr Σ_B",
        "nc2_cos_dev_means": "NC2: mean |cos + 1/(K−1)|",
        "nc3_frobenius": "NC3: ‖W/‖W‖ − M/‖M‖‖",
        "nc4_mismatch": "NC4: share decided otherwise",
    }
    for ax, (metric, ylabel) in zip(axes, labels.items(), strict=True):
        series = {split: (metric, split) for split in LINES}
        curves(table, series, ax, log=metric != "nc4_mismatch", ylabel=ylabel)
    down_to_zero(axes[-1], one_sample(table))
    return axes


def onto_training_means(table: pd.DataFrame, ax: Axes) -> Axes:
    """Mean squared distance of test features from the training mean of their class and from the nearest one.

    In units of Tr Sigma_B of the training features, whose own distance is their NC1.
    """
    series = {
        "train": ("nc1_trace_ratio", "train"),
        "test, own class": ("test_collapse_strong", "test"),
        "test, nearest": ("test_collapse_weak", "test"),
    }
    return curves(table, series, ax, ylabel="mean squared distance / Tr Σ_B")


def nearest_wrong(table: pd.DataFrame) -> pd.DataFrame:
    """Share of test images whose nearest training mean is another class's, a row a seed and a column an epoch."""
    return 1 - seeds_by_epochs(table, "ncc_accuracy_train_means", split="test")


def wrong_means(table: pd.DataFrame, ax: Axes) -> Axes:
    """`nearest_wrong` beside the classifier's own test error, against epochs."""
    error = seeds_by_epochs(table, "error", split="test")
    interval(nearest_wrong(table), ax, label="nearest mean is wrong", colour=COLOURS["green"], share=True)
    interval(
        error, ax, label="classifier is wrong", colour=COLOURS["orange"], share=True, marker="s", line="--"
    )
    ax.set(ylabel="share of test images", ylim=(0, None))
    legend(ax, 1)
    return epochs(table, ax)


# Which falls first


def progress(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Share of a positive metric's fall that is done: log(v_1/v_e) / log(v_1/v_T), a row a seed, a column an epoch.

    v_1 is the first measured value and v_T the last, so that it begins at 0 and ends at 1 and may leave [0, 1]
    between. NaN for a seed in which the metric is no lower at the end. Raises ValueError when a value is not
    positive.
    """
    values = seeds_by_epochs(table, metric)
    if (values <= 0).any(axis=None):
        raise ValueError(f"{metric} is not positive everywhere: its fall has no logarithm")
    fallen = -np.log(values).sub(np.log(values.iloc[:, 0]), axis=0)
    total = fallen.iloc[:, -1]
    return fallen.div(total.where(total > 0), axis=0)


def half_fall(table: pd.DataFrame, metric: str) -> pd.Series:
    """By seed, the first measured epoch from which on at least half of `progress` is done; NaN for no fall."""
    done = progress(table, metric)
    kept = (done >= 0.5).iloc[:, ::-1].cummin(axis=1)
    return kept.iloc[:, ::-1].idxmax(axis=1).where(done.notna().all(axis=1)).astype(float)


def progresses(table: pd.DataFrame, names: dict[str, str], ax: Axes) -> Axes:
    """`progress` of up to three metrics (name to label) against epochs; seeds without a fall are left out."""
    kinds = (("blue", "o", "-"), ("orange", "s", "--"), ("green", "^", "-."))
    for (metric, label), (colour, marker, line) in zip(names.items(), kinds, strict=False):
        done = progress(table, metric).dropna(how="all")
        interval(done, ax, label=label, colour=COLOURS[colour], marker=marker, line=line)
    ax.axhline(0.5, color=COLOURS["black"], linewidth=0.9, linestyle="--")
    ax.set_ylabel("share of the fall in log scale")
    legend(ax, 1)
    return epochs(table, ax)


def plane(table: pd.DataFrame, x: str, y: str, ax: Axes) -> Axes:
    """Two metrics of training features against each other, a path a seed.

    Ring: first measured epoch; star: first without a training error; square: last; cross: last measured before
    the learning rate drops.
    """
    horizontal, vertical = seeds_by_epochs(table, x), seeds_by_epochs(table, y)
    measured, begins = horizontal.columns, onset(table)
    cut = [measured[measured <= e].max() for e in drops(table)]
    colours = [COLOURS[name] for name in ("blue", "orange", "green", "pink", "sky", "amber")]
    for i, seed in enumerate(horizontal.index):
        colour = colours[i % len(colours)]
        path = pd.DataFrame({"x": horizontal.loc[seed], "y": vertical.loc[seed]})
        ax.plot(path.x, path.y, "-", color=colour, linewidth=1.2, label=f"seed {seed}")
        for marker, size, where in (
            ("o", 7, measured[:1]), ("x", 7, cut), ("*", 12, begins[[seed]].dropna()), ("s", 6, measured[-1:])
        ):  # fmt: skip
            fill = "white" if marker == "o" else colour
            ax.plot(*path.loc[where].T.to_numpy(), marker, color=colour, ms=size, mfc=fill, zorder=3)
    log_axis(ax)
    log_axis(ax, "x")
    ax.set(xlabel=tables.METRICS[x], ylabel=tables.METRICS[y])
    legend(ax, 3)
    return ax
