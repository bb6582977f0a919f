"""Figures of trained networks beside what the theory of unconstrained features says of them."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nclib import tables
from nclib.plots.settings import final, given, name, values
from nclib.plots.style import COLOURS, interval
from nclib.plots.terminal_phase import epoch_axis

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
BIAS = {"‖W μ_G + b‖ (first = 1)": {"metric": "bias_collapse", "relative": True}}
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
    """Runs that differ from the baseline in the optimiser alone, by its name; see `decays`."""
    return _along(table, ("optimizer",), {(key,): name("optimizer", key) for key in _OPTIMIZERS})


def decays(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Runs that differ in what weight decay falls on, the baseline first. Empty where there is nothing to compare."""
    found = table[["decayed", "feature_decay"]].drop_duplicates().itertuples(index=False)
    names = {(d, f): _DECAYS[d, f > 0] for d, f in found}
    order = {key: names[key] for wanted in _DECAYS.values() for key in names if names[key] == wanted}
    return _along(table, ("decayed", "feature_decay"), order)


def peeled(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The runs with decay on classifier and features alone; see `decays`."""
    wanted = _DECAYS["last_layer", True]
    return {text: rows for text, rows in decays(table).items() if text == wanted}


def classifiers(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Runs that differ in what the classifier is, and in the dimension of the features; see `decays`."""
    dims = sorted(table.feature_dim.unique())
    names = {
        (kind, d): text + (f", d = {d}" if d else "") for d in dims for kind, text in _CLASSIFIERS.items()
    }
    return _along(table, ("classifier", "feature_dim"), names)


def _along(table: pd.DataFrame, varied: tuple[str, ...], names: dict[tuple, str]) -> dict[str, pd.DataFrame]:
    rows = tables.select(table, **{k: v for k, v in BASELINE.items() if k not in varied})
    found = {text: tables.select(rows, **dict(zip(varied, key, strict=True))) for key, text in names.items()}
    found = {text: chosen for text, chosen in found.items() if len(chosen)}
    own = names.get(tuple(BASELINE[k] for k in varied))
    return found if own in found and len(found) > 1 else {}


def by_width(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric of the runs on completely random labels at their last epoch, a row a seed and a column a width."""
    rows = tables.select(table, **BASELINE | {"label_noise": 1.0})
    if rows.empty:
        raise KeyError("the table holds no runs on random labels")
    return pd.DataFrame({w: final(tables.select(rows, width=w), metric) for w in sorted(rows.width.unique())})


# Drawing


def memorised(table: pd.DataFrame, ax: Axes) -> Axes:
    """The training error on random labels at the last epoch, against the width: mean and 95 % t-interval."""
    interval(by_width(table, "error"), ax, label="error on the random labels", colour=COLOURS["blue"])
    ax.set_ylabel("training error (share)")
    return _width_axis(table, ax)


def collapsed(table: pd.DataFrame, ax: Axes, *, below: float) -> Axes:
    """NC1, NC2 and NC3 on random labels at the last epoch against the width, and the bound for all of them."""
    looks = (("orange", "s"), ("green", "^"), ("pink", "D"))
    for (label, options), (colour, marker) in zip(list(COLLAPSE.items())[:3], looks, strict=True):
        interval(
            by_width(table, options["metric"]),
            ax,
            label=label,
            colour=COLOURS[colour],
            marker=marker,
            log=True,
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
    gap = values(rows, "objective_gap", labels=given(rows), layer="all")
    interval(gap, ax, label="(f − f*)/f* of the network", colour=COLOURS["blue"], log=True)
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
