"""Figures of trained networks beside what the theory of unconstrained features says of them."""

import math
from collections import Counter
from collections.abc import Callable, Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nclib import tables
from nclib.plots.settings import final, name, values
from nclib.plots.style import COLOURS, interval
from nclib.plots.terminal_phase import epoch_axis
from nclib.plots.trajectories import only, scale

BASELINE = {
    "optimizer": "sgd", "decayed": "all", "feature_decay": 0.0, "classifier": "learned", "feature_dim": 0,
    "label_noise": 0.0,
}  # fmt: skip
"""What is varied, and its value where it is not."""
COLLAPSE = {
    "NC1: Tr(Σ_W Σ_B⁺)/K": {"metric": "nc1_pinv"},
    "NC2: Gram of W from simplex": {"metric": "nc2_etf_weights"},
    "NC3: W Mᵀ from simplex": {"metric": "nc3_etf"},
    "error on test data (share)": {"metric": "error", "split": "test", "labels": "clean", "log": False},
}
"""Panels of the source's own measures of collapse, and of what is hoped to come with it."""
BIAS = {"‖W μ_G + b‖": {"metric": "bias_collapse"}}
_OPTIMIZERS = ("sgd", "adam", "adamw", "lbfgs")
_DECAYS = {
    ("all", False): "every parameter", ("last_layer", True): "classifier and features",
    ("last_layer", False): "classifier alone", ("last_layer_normalised", True): "as released",
}  # fmt: skip
_CLASSIFIERS = {
    "learned": "learned",
    "etf": "simplex ETF",
    "orthoplex": "orthoplex",
    "hypercube": "hypercube",
}


# Reading the table


def optimisers(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Runs that differ from the baseline in the optimiser and its settings, by its name; see `decays`."""
    fields = ("optimizer", "lr", "batch_size", "epochs")
    return _along(
        table, fields,
        order=lambda kind: _OPTIMIZERS.index(kind[0]),
        short=lambda kind: name("optimizer", kind[0]),
        long=lambda kind: "{}, rate {:g}, batch {}, {} epochs".format(name("optimizer", kind[0]), *kind[1:]),
    )  # fmt: skip


def decays(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Runs that differ in what weight decay falls on, the baseline first. Empty where there is nothing to compare.

    A name that would stand for several settings says what they are.
    """

    def text(kind: tuple[str, float]) -> str:
        return _DECAYS[kind[0], kind[1] > 0]

    return _along(
        table, ("decayed", "feature_decay"),
        order=lambda kind: list(_DECAYS.values()).index(text(kind)),
        short=text,
        long=lambda kind: f"{text(kind)}, {kind[1]:g}",
    )  # fmt: skip


def peeled(table: pd.DataFrame) -> dict[float, pd.DataFrame]:
    r"""The runs with decay on classifier and features alone, by that of the features, where f* is known.

    It is known for classes of one size, $d \ge K - 1$ and a classifier that is decayed.
    """
    wanted = {k: v for k, v in BASELINE.items() if k != "feature_decay"} | {"decayed": "last_layer"}
    rows = tables.select(table, **wanted)
    known = rows.run.isin(rows.run[rows.metric == "objective_gap"])
    return dict(iter(rows[known].groupby("feature_decay")))


def classifiers(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Runs that differ in what the classifier is, and in the dimension of the features; see `decays`."""

    def text(kind: tuple[str, int]) -> str:
        return _CLASSIFIERS[kind[0]] + (f", d = {kind[1]}" if kind[1] else "")

    return _along(
        table, ("classifier", "feature_dim"),
        order=lambda kind: (kind[1], list(_CLASSIFIERS).index(kind[0])),
        short=text,
        long=text,
    )  # fmt: skip


def _along(
    table: pd.DataFrame,
    varied: tuple[str, ...],
    *,
    order: Callable[[tuple], object],
    short: Callable[[tuple], str],
    long: Callable[[tuple], str],
) -> dict[str, pd.DataFrame]:
    rows = tables.select(table, **{k: v for k, v in BASELINE.items() if k not in varied})
    kinds = sorted(set(rows[list(varied)].itertuples(index=False, name=None)), key=lambda k: (order(k), k))
    shared = Counter(map(short, kinds))
    found = {
        short(kind) if shared[short(kind)] == 1 else long(kind): tables.select(
            rows, **dict(zip(varied, kind, strict=True))
        )
        for kind in kinds
    }
    return found if len(found) > 1 and len(tables.select(rows, **BASELINE)) else {}


def first_and_last(found: dict[str, pd.DataFrame], metric: str) -> pd.DataFrame:
    """Geometric means over seeds of a metric at the first and the last measured epoch, a row for each of these runs."""
    logs = {text: values(rows, metric).map(math.log).mean().map(math.exp) for text, rows in found.items()}
    return pd.DataFrame(
        {text: {"first": curve.iloc[0], "last": curve.iloc[-1]} for text, curve in logs.items()}
    ).T


def at_end(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean over seeds of each of `COLLAPSE` at the last epoch, a row for each of these runs."""
    columns = {}
    for label, options in COLLAPSE.items():
        where = {k: v for k, v in options.items() if k != "log"}
        columns[label] = {text: final(rows, **where).mean() for text, rows in found.items()}
    return pd.DataFrame(columns)


def by_width(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric of the runs on completely random labels at their last epoch, a row a seed and a column a width."""
    rows = tables.select(table, **BASELINE | {"label_noise": 1.0})
    if rows.empty:
        raise KeyError("the table holds no runs on random labels")
    return pd.DataFrame({w: final(tables.select(rows, width=w), metric) for w in sorted(rows.width.unique())})


def on_true_labels(table: pd.DataFrame, width: int) -> dict[str, float]:
    """Geometric means over seeds of NC1, NC2 and NC3 at the last epoch of the baseline at a width; empty without it."""
    rows = tables.select(table, **BASELINE, width=width)
    if rows.empty:
        return {}
    metrics = [options["metric"] for options in COLLAPSE.values() if options["metric"] != "error"]
    return {metric: math.exp(final(rows, metric).map(math.log).mean()) for metric in metrics}


def on_random_labels(rows: pd.DataFrame) -> str:
    """The scale of these runs on random labels, of several widths, and in a second line how they were trained."""
    first = scale(rows[rows.width == rows.width.min()].assign(width="as below"))
    deep = f"{only(rows, 'depth')} hidden layers, " if only(rows, "architecture") == "mlp" else ""
    how = name("optimizer", only(rows, "optimizer"))
    return (
        f"{first}, random labels\n{deep}{how} at rate {only(rows, 'lr'):g}, batches of {only(rows, 'batch_size')}, "
        f"weight decay {only(rows, 'weight_decay'):g}"
    )


# Drawing


def memorised(table: pd.DataFrame, ax: Axes) -> Axes:
    """The training error on random labels at the last epoch, against the width: mean and 95 % t-interval."""
    interval(
        by_width(table, "error"), ax, label="error on the random labels", colour=COLOURS["blue"], share=True
    )
    ax.set_ylabel("training error (share)")
    return _width_axis(table, ax)


def collapsed(table: pd.DataFrame, ax: Axes, *, below: float, true: Mapping[str, float]) -> Axes:
    """NC1, NC2 and NC3 on random labels at the last epoch against the width, and the bound for all of them.

    Dashes: what `true` says of each at the largest width, from `on_true_labels`.
    """
    looks, widest = (("orange", "s"), ("green", "^"), ("pink", "D")), by_width(table, "error").columns[-1]
    for (label, options), (colour, marker) in zip(list(COLLAPSE.items())[:3], looks, strict=True):
        interval(
            by_width(table, options["metric"]),
            ax,
            label=label,
            colour=COLOURS[colour],
            marker=marker,
            log=True,
        )
        if true:
            ax.axhline(true[options["metric"]], color=COLOURS[colour], linewidth=1.0, linestyle="--")
    if true:
        ax.plot(
            [],
            [],
            "--",
            color=COLOURS["grey"],
            linewidth=1.0,
            label=f"on true labels, width {widest}",
        )
    ax.axhline(below, color=COLOURS["black"], linewidth=0.9, linestyle=":", label=f"the bound, {below:g}")
    ax.set_yscale("log")
    ax.set_ylabel("collapse (no unit)")
    return _width_axis(table, ax)


def _width_axis(table: pd.DataFrame, ax: Axes) -> Axes:
    widths = by_width(table, "error").columns
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(list(widths)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda w, _: f"{w:g}"))
    ax.set_xlabel("width")
    return ax


def above_the_minimum(rows: pd.DataFrame, ax: Axes, *, non_negative: float) -> Axes:
    """How far f at the network's own features is above its minimum over all features, against epochs.

    Dashes: where the minimum over features without negative entries lies, by the same measure.
    """
    gap = values(rows, "objective_gap", layer="all")
    interval(gap, ax, label="(f − f*)/f* of the network", colour=COLOURS["orange"], log=True, marker="s")
    ax.axhline(
        non_negative,
        color=COLOURS["black"],
        linewidth=1.0,
        linestyle="--",
        label="no negative entries, at least",
    )
    ax.set_yscale("log")
    ax.set_ylabel("(f − f*)/f* (ratio)")
    return epoch_axis(rows, ax)
