"""Figures of terminal-phase training: every curve is a mean over seeds, every band a 95 % t-interval."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from nclib import tables
from nclib.plots.simplex import cosines, gram, name_classes
from nclib.plots.style import COLOURS, SHARES, drop_lines, interval, log_epochs, plain_log

TRAINING_IMAGES = {
    "fashion_mnist": 60_000, "mnist": 60_000, "kmnist": 60_000, "cifar10": 50_000, "mnist1d": 4_000,
}  # fmt: skip
"""Sizes of the training splits: what a run's `train_size` is a subset of."""
NETWORKS = {
    "resnet18": "ResNet-18", "vgg11": "VGG-11", "densenet40": "DenseNet-40", "mlp": "perceptron",
}  # fmt: skip
"""What each network that the study trains is called."""
LINES = {"train": "-", "test": "--"}
MARKERS = {"train": "o", "test": "s"}
_LOOKS = (("blue", "o", "-"), ("orange", "s", "--"), ("green", "^", "-."))


# Reading the table


def seeds_by_epochs(
    table: pd.DataFrame, metric: str, *, split: str = "train", layer: str = "features", labels: str = "clean"
) -> pd.DataFrame:
    """One metric, a row a seed and a column an epoch.

    Raises KeyError when the table holds no such number and ValueError when a seed stands for several runs:
    a curve is drawn of what was measured under one set of parameters, or not at all.
    """
    rows = tables.select(table, metric=metric, split=split, layer=layer, labels=labels)
    if rows.empty:
        raise KeyError(f"the table holds no {metric!r} of {split}/{layer}")
    if rows.duplicated(["seed", "epoch"]).any():
        raise ValueError(f"{metric}: a seed stands for several runs; select one set of parameters first")
    return rows.pivot(index="seed", columns="epoch", values="value")


def at_epoch(
    table: pd.DataFrame, metric: str, epoch: int, *, split: str = "train", layer: str = "features"
) -> pd.Series:
    """One metric by seed at exactly this epoch; KeyError when a seed lacks it."""
    frame = seeds_by_epochs(table, metric, split=split, layer=layer)
    if epoch not in frame or frame[epoch].isna().any():
        raise KeyError(f"{metric!r} of {split}/{layer} was not measured at epoch {epoch} for every seed")
    return frame[epoch]


def onset(table: pd.DataFrame, at_most: float = 0.0, *, labels: str = "clean") -> pd.Series:
    """By seed, the first measured epoch with training error at most `at_most`; NaN where there is none."""
    reached = seeds_by_epochs(table, "error", labels=labels) <= at_most
    return reached.idxmax(axis=1).where(reached.any(axis=1)).astype(float)


def last_epoch(table: pd.DataFrame) -> int:
    """The epoch at which training was planned to end, which every seed must have reached (ValueError).

    Of a table without a column `epochs`, as one's own has none, the last measured one.
    """
    reached = set(table.groupby("run").epoch.max())
    planned = set(table["epochs"]) if "epochs" in table else {max(reached)}
    if len(planned) != 1 or planned != reached:
        raise ValueError(f"runs end at epochs {sorted(reached)}, planned were {sorted(planned)}")
    return int(planned.pop())


def images(table: pd.DataFrame) -> str:
    """How many training images (or signals) were used, in words that say "a subset" where it was one."""
    dataset, size = only(table, "dataset"), int(only(table, "train_size"))
    if dataset not in TRAINING_IMAGES:
        return f"{size:,} images of {dataset} (a subset)"
    full, kind = TRAINING_IMAGES[dataset], "signals" if dataset == "mnist1d" else "images"
    return (
        f"all {full:,} training {kind}"
        if size >= full
        else f"a subset of {size:,} of {full:,} training {kind}"
    )


def scale(table: pd.DataFrame) -> str:
    """One line for the top of a figure: network, width, images, epochs, seeds."""
    name = NETWORKS[only(table, "architecture")]
    return (
        f"{only(table, 'dataset')}, {name}, width {only(table, 'width')}, {images(table)}, "
        f"{only(table, 'epochs')} epochs, n = {table.seed.nunique()} seeds"
    )


def drops(table: pd.DataFrame) -> list[int]:
    """Epochs after which the step schedule lowers the learning rate; none under another schedule, or an untold one."""
    if "schedule" not in table:
        return []
    end = last_epoch(table)
    return sorted({end // 3, 2 * end // 3} - {0}) if only(table, "schedule") == "step" else []


def only(table: pd.DataFrame, parameter: str) -> object:
    """The one value that a parameter has in this table; ValueError when it has several."""
    values = table[parameter].unique()
    if len(values) != 1:
        raise ValueError(f"{parameter} takes {len(values)} values here: select one set of parameters first")
    return values[0]


def one_sample(table: pd.DataFrame) -> float:
    """The share of one training sample; of a table without `train_size` the smallest share above zero, or 1."""
    if "train_size" in table:
        return 1 / float(only(table, "train_size"))
    shares = table[table.metric.isin(SHARES) & (table.value > 0)].value
    return float(shares.min()) if len(shares) else 1.0


# Drawing


def epochs(table: pd.DataFrame, ax: Axes, *, at_most: float = 0.0) -> Axes:
    """`epoch_axis` with the terminal phase shaded, a layer a seed, from a line at its first epoch on.

    The shade is the darker the more seeds have had a measured training error of at most `at_most`.
    """
    end, n = last_epoch(table), table.seed.nunique()
    for start in onset(table, at_most).dropna():
        ax.axvspan(start, end, color=COLOURS["amber"], alpha=0.24 / n, linewidth=0, zorder=0)
        # Where the last epoch is the first of them, the line is all that can be seen.
        ax.axvline(start, color=COLOURS["amber"], linewidth=1.4, zorder=0.5)
    return epoch_axis(table, ax)


def epoch_axis(table: pd.DataFrame, ax: Axes) -> Axes:
    """A log axis of the epochs that were planned, the step schedule's learning-rate drops dotted."""
    drop_lines(drops(table), ax)
    return log_epochs(last_epoch(table), ax)


def curves(
    table: pd.DataFrame,
    series: dict[str, tuple[str, str]],
    ax: Axes,
    *,
    log: bool = True,
    ylabel: str = "",
    columns: int = 2,
) -> Axes:
    """One curve for each label of `series`, which maps it to (metric, split), against epochs.

    Each has its own colour, marker and dashes. With `log` means and intervals are of the logarithm; of `SHARES`
    never. The legend stands above, in this many columns.
    """
    for (label, (metric, split)), (colour, marker, line) in zip(series.items(), _LOOKS, strict=False):
        share = metric in SHARES
        interval(
            seeds_by_epochs(table, metric, split=split), ax, label=label, colour=COLOURS[colour],
            log=log and not share, share=share, marker=marker, line=line,
        )  # fmt: skip
    if log:
        log_axis(ax)
    ax.set_ylabel(ylabel)
    legend(ax, columns)
    return epochs(table, ax)


def legend(ax: Axes, columns: int = 2) -> None:
    """Above the panel, where it hides no curve."""
    ax.legend(
        fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, columnspacing=1
    )


def log_axis(ax: Axes, which: str = "y") -> None:
    """A log axis labelled in plain decimals at 1, 2 and 5: many of these measures span less than a decade."""
    ax.set(**{f"{which}scale": "log"})
    plain_log({"x": ax.xaxis, "y": ax.yaxis}[which])


def down_to_zero(ax: Axes, smallest: float) -> None:
    """A log axis that shows exact zeros: linear below one sample. Call it when everything is drawn."""
    ax.set_yscale("symlog", linthresh=smallest, linscale=0.4)
    ax.set_ylim(0, max(1.5 * ax.dataLim.y1, 10 * smallest))
    ax.yaxis.set_minor_locator(NullLocator())


def errors(table: pd.DataFrame, ax: Axes) -> Axes:
    """Training and test error on a log axis that reaches down to exactly zero."""
    series = {"train": ("error", "train"), "test": ("error", "test")}
    curves(table, series, ax, log=False, ylabel="classification error (share)")
    down_to_zero(ax, one_sample(table))
    return ax


def train_and_test(table: pd.DataFrame, metric: str, ax: Axes) -> Axes:
    """One positive metric on training and on test images, under its own name."""
    if metric not in tables.METRICS:
        raise KeyError(f"no metric is called {metric!r}")
    return curves(
        table, {"train": (metric, "train"), "test": (metric, "test")}, ax, ylabel=tables.METRICS[metric]
    )


def nc2(table: pd.DataFrame, axes: list[Axes]) -> list[Axes]:
    """Equal norms, equal angles, maximal angles: of the training class means and of the classifier's rows.

    The classifiers' cosines are drawn where the table has their spread; runs recorded before it was measured do not.
    """
    wanted = (
        ("norm_cv", "CV of norms (equinorm)"),
        ("cos_std", "std of pairwise cosines (equiangular)"),
        ("cos_dev", "mean |cos + 1/(K−1)| (maximal angle)"),
    )
    for ax, (name, ylabel) in zip(axes, wanted, strict=True):
        series = {"class means": (f"nc2_{name}_means", "train")}
        if name != "cos_std" or (table.metric == "nc2_cos_std_weights").any():
            series["classifiers"] = (f"nc2_{name}_weights", "train")
        curves(table, series, ax, ylabel=ylabel, columns=1)
    return axes


def nc3(table: pd.DataFrame, ax: Axes) -> Axes:
    """Self-duality of classifiers and training class means, in the three published forms."""
    series = {
        "‖W/‖W‖ − M/‖M‖‖": ("nc3_frobenius", "train"),
        "W Mᵀ from simplex": ("nc3_etf", "train"),
        "1 − mean cosine": ("nc3_cosine", "train"),
    }
    return curves(table, series, ax, ylabel="NC3 (no unit)")


def nc4(table: pd.DataFrame, ax: Axes) -> Axes:
    """Share of images on which classifier and nearest *training* class mean disagree; zero is on the axis."""
    series = {"train": ("nc4_mismatch", "train"), "test": ("nc4_mismatch_train_means", "test")}
    curves(table, series, ax, log=False, ylabel="NC4: share decided otherwise")
    down_to_zero(ax, one_sample(table))
    return ax


def grams(at: dict[int, np.ndarray], axes: list[Axes], *, names: Sequence[str] | None = None) -> list[Axes]:
    """Cosines of class means (K, d) about their mean, a heat map an epoch, the simplex's own last.

    Columns are numbered by class, and so are the rows of the first, which bear the `names` of the classes, too.
    """
    if len(axes) != len(at) + 1:
        raise ValueError(f"{len(at)} epochs need {len(at) + 1} panels, got {len(axes)}")
    for ax, (epoch, means) in zip(axes, at.items(), strict=False):
        gram(cosines(means), ax).set_title(f"epoch {epoch}")
    K = len(means)
    gram((K * np.eye(K) - 1) / (K - 1), axes[-1]).set_title("simplex ETF")
    for ax in axes:
        name_classes(range(K), ax, names=names, rows=ax is axes[0])
    return axes


def four_epochs(measured: list[int], start: float) -> list[int]:
    """First, last, two measured epochs between: `start` if it is one, then the middle of a longest stretch.

    All of them when fewer than four were measured.
    """
    measured = sorted(int(e) for e in measured)
    if len(measured) <= 4:
        return measured
    chosen = {0, len(measured) - 1}
    if start in measured:
        chosen.add(measured.index(int(start)))
    while len(chosen) < 4:  # measured epochs are even on a log axis: halve the longest stretch
        places = sorted(chosen)
        low, high = max(pairwise(places), key=lambda pair: pair[1] - pair[0])
        chosen.add((low + high) // 2)
    return [measured[i] for i in sorted(chosen)]
