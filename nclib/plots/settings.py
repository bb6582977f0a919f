"""Figures of runs that differ from a baseline in one thing, beside it."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from nclib import tables
from nclib.plots.style import (
    COLOURS,
    SHARES,
    drop_lines,
    figure,
    interval,
    legend_below,
    log_epochs,
    log_scale,
    mean_and_interval,
    mean_with_interval,
)
from nclib.plots.terminal_phase import epoch_axis, legend
from nclib.plots.trajectories import NETWORKS, drops, last_epoch, only, onset, seeds_by_epochs

BASELINE = {
    "architecture": "resnet18", "optimizer": "sgd", "weight_decay": 5e-4, "loss": "cross_entropy",
    "label_noise": 0.0, "precision": "bfloat16",
}  # fmt: skip
"""What is varied one at a time, and its value where it is not."""
COLLAPSE = {
    "NC1: Tr(Σ_W Σ_B⁺)/K": {"metric": "nc1_pinv"},
    "NC2: CV of ‖μ_c − μ_G‖": {"metric": "nc2_norm_cv_means"},
    "NC2: mean |cos + 1/(K−1)|": {"metric": "nc2_cos_dev_means"},
    "NC3: ‖W/‖W‖ − M/‖M‖‖": {"metric": "nc3_frobenius"},
}
"""Panels of the terminal phase: what is on the axis, and where it stands in the table."""
NC0 = {"metric": "nc0_row_sum", "split": "none", "labels": "none", "layer": "all"}
CLASSIFIER = {
    "NC0: ‖Wᵀ1‖ (first = 1)": NC0 | {"relative": True},
    "NC1: Tr(Σ_W Σ_B⁺)/K": {"metric": "nc1_pinv"},
    "NC2: Gram of W from simplex": {"metric": "nc2_etf_weights"},
    "NC3: ‖W/‖W‖ − M/‖M‖‖": {"metric": "nc3_frobenius"},
}
"""Panels of optimisers and weight decays: the four measures of Zhao et al. (2026), normalised as ours are."""
_NAMES = NETWORKS | {
    "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "lbfgs": "L-BFGS",
    "bfloat16": "trained in bfloat16", "float32": "trained in float32",
    "cross_entropy": "cross-entropy", "mse": "squared error",
}  # fmt: skip
_OWN = (COLOURS["blue"], "o")
_OTHERS = tuple(
    (COLOURS[name], m) for name, m in zip(("orange", "green", "pink", "amber"), "s^Dv", strict=True)
)


# Reading the table


def name(parameter: str, value: object) -> str:
    """What one setting is called in a legend."""
    if parameter == "weight_decay":
        return f"λ = {value:g}"
    if parameter == "label_noise":
        return {0.0: "true labels", 1.0: "random labels"}.get(value, f"{value:.0%} permuted")
    return _NAMES.get(value, str(value))


def along(table: pd.DataFrame, parameter: str) -> dict[str, pd.DataFrame]:
    """Runs that differ from the baseline in this alone, by its value, the baseline among them.

    A network's width goes with it, and is named where it is not the baseline's.
    Empty when the baseline, or everything beside it, is missing: a comparison has two sides.
    ValueError where one of them has several widths.
    """
    rows = tables.select(table, **{k: v for k, v in BASELINE.items() if k != parameter})
    order = list(_NAMES)
    values = sorted(rows[parameter].unique(), key=lambda v: order.index(v) if v in order else v)
    if len(values) < 2 or BASELINE[parameter] not in values:
        return {}
    found = {value: tables.select(rows, **{parameter: value}) for value in values}
    widths = {value: only(runs, "width") for value, runs in found.items()}
    said = {value: "" if w == widths[BASELINE[parameter]] else f", width {w}" for value, w in widths.items()}
    return {name(parameter, value) + said[value]: runs for value, runs in found.items()}


def variants(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The baseline first, then every run that differs from it in one thing, as `along` finds them."""
    found = {"baseline": tables.select(table, **BASELINE)}
    for parameter, value in BASELINE.items():
        others = along(table, parameter)
        others.pop(name(parameter, value), None)
        found |= others
    return found


def given(rows: pd.DataFrame) -> str:
    """The set of training labels that these runs were trained on: `noisy` where there is one."""
    return "noisy" if (rows.labels == "noisy").any() else "clean"


def values(
    rows: pd.DataFrame, metric: str, *, split: str = "train", labels: str = "given", layer: str = "features"
) -> pd.DataFrame:
    """One metric, a row a seed and a column an epoch; `labels="given"` are those trained on. Infinity is no value."""
    labels = given(rows) if labels == "given" else labels
    found = seeds_by_epochs(rows, metric, split=split, layer=layer, labels=labels)
    return found.replace(math.inf, math.nan)


def final(rows: pd.DataFrame, metric: str, **where: str) -> pd.Series:
    """One metric by seed at the last epoch; KeyError when a seed lacks it there."""
    found, end = values(rows, metric, **where), last_epoch(rows)
    if end not in found or found[end].isna().any():
        raise KeyError(f"{metric!r} was not measured at epoch {end} for every seed")
    return found[end]


def ratios(
    found: dict[str, pd.DataFrame],
    pairs: Sequence[tuple[str, str]],
    shown: dict[str, dict[str, object]],
) -> pd.DataFrame:
    """Of each pair of these runs one over the other at the last epoch, a column a pair and a row a metric.

    Geometric mean over the seeds that both have, with its 95 % t-interval.
    """
    ends = {
        label: {form: final(rows, **options) for form, options in shown.items()}
        for label, rows in found.items()
        if any(label in pair for pair in pairs)
    }
    return pd.DataFrame(
        {
            f"{one} / {other}": {
                form: mean_with_interval(ends[one][form] / ends[other][form], log=True) for form in shown
            }
            for one, other in pairs
        }
    )


# Drawing


def compared(
    found: dict[str, pd.DataFrame],
    ax: Axes,
    *,
    metric: str,
    log: bool = True,
    relative: bool = False,
    own: dict[str, object] = BASELINE,
    **where: str,
) -> Axes:
    """One curve of a metric for each of these runs: mean over seeds, 95 % t-interval, of the logarithm with `log`.

    Of `SHARES` never of the logarithm. With `relative` every seed is divided by its value at the first measured epoch.
    Marks above the panel: the first measured epoch without an error on the labels trained on; a number over a mark is
    that of seeds that share it. Dotted: learning-rate drops, grey where several of these have them, else in the
    colour of the one that has.
    """
    share = metric in SHARES
    for i, ((label, rows), (colour, marker)) in enumerate(zip(found.items(), looks(found, own), strict=True)):
        curve = values(rows, metric, **where)
        if relative:
            curve = curve.div(curve.iloc[:, 0], axis="index")
        interval(curve, ax, label=label, colour=colour, log=log and not share, share=share, marker=marker)
        _first_epochs(onset(rows, labels=given(rows)), ax, row=i, colour=colour, marker=marker)
    _drops(found, ax, own)
    if log:
        log_scale(ax)
    return log_epochs(max(last_epoch(rows) for rows in found.values()), ax)


def _first_epochs(begins: pd.Series, ax: Axes, *, row: int, colour: str, marker: str) -> None:
    """A mark above the panel at each of these epochs, and over it how many seeds share it where several do."""
    for epoch, seeds in Counter(begins.dropna()).items():
        up = ScaledTranslation(0, (5 + 12 * row) / 72, ax.figure.dpi_scale_trans)
        above = ax.get_xaxis_transform() + up
        ax.plot(epoch, 1, marker, color=colour, ms=4, clip_on=False, transform=above)
        if seeds > 1:
            over = above + ScaledTranslation(0, 3 / 72, ax.figure.dpi_scale_trans)
            ax.text(epoch, 1, f"{seeds}", color=colour, fontsize=6.5, ha="center", transform=over)


def _drops(found: dict[str, pd.DataFrame], ax: Axes, own: dict[str, object]) -> None:
    """The learning-rate drops of these runs, each once."""
    shared = Counter(tuple(drops(rows)) for rows in found.values())
    for rows, (colour, _) in zip(found.values(), looks(found, own), strict=True):
        after = tuple(drops(rows))
        alone = shared.pop(after, 0)
        if alone:
            drop_lines(after, ax, colour if alone == 1 < len(found) else COLOURS["grey"])


def looks(found: dict[str, pd.DataFrame], own: dict[str, object] = BASELINE) -> list[tuple[str, str]]:
    """Colour and marker of each: the baseline's, the first with `own` parameters, are the same in every figure."""
    others = cycle(_OTHERS)
    baseline = next((label for label, rows in found.items() if len(tables.select(rows, **own))), None)
    return [_OWN if label == baseline else next(others) for label in found]


def panels(
    found: dict[str, pd.DataFrame],
    shown: dict[str, dict[str, object]],
    own: dict[str, object] = BASELINE,
) -> Figure:
    """`compared` on a panel for each of `shown`, two a row, which maps what is on the axis to its options."""
    fig, axes = figure(-(-len(shown) // 2), 2, width=8.0, height=3.0)
    for ax, (label, options) in zip(axes, shown.items(), strict=True):
        compared(found, ax, own=own, **options).set_ylabel(label)
    legend_below(axes, 4)
    return fig


def predicted(factor: pd.Series, ax: Axes) -> Axes:
    """Black dashes: a factor by epoch, divided by that of its first epoch."""
    ax.plot(factor.index, factor / factor.iloc[0], "--", color=COLOURS["black"], lw=1, zorder=3)
    return ax


def parts(rows: pd.DataFrame, ax: Axes) -> Axes:
    """The squared error with penalty and the three parts that it is the sum of, against epochs."""
    shown = (
        ("mse_total", "$L$, the sum", "black", "o"), ("mse_nc1", r"$L_\mathrm{NC1}$", "sky", "s"),
        ("mse_nc23", r"$L_\mathrm{NC2/3}$", "amber", "^"), ("mse_perp", r"$L_\perp$", "pink", "v"),
    )  # fmt: skip
    for metric, label, colour, marker in shown:
        interval(values(rows, metric), ax, label=label, colour=COLOURS[colour], log=True, marker=marker)
    log_scale(ax)
    ax.set_ylabel("squared error")
    legend(ax)
    return epoch_axis(rows, ax)


def off_the_path(rows: pd.DataFrame, ax: Axes) -> Axes:
    """L_⊥ over the rest of the squared error, formed within each seed, and the tenth that the claim allows."""
    share = values(rows, "mse_perp") / (values(rows, "mse_nc1") + values(rows, "mse_nc23"))
    label = r"$L_\perp\,/\,(L_\mathrm{NC1} + L_\mathrm{NC2/3})$"
    interval(share, ax, label=label, colour=COLOURS["pink"], log=True, marker="v")
    ax.axhline(0.1, color=COLOURS["black"], linewidth=0.9, linestyle="--", label="a tenth")
    log_scale(ax)
    ax.set_ylabel(r"$L_\perp$ over the rest (ratio)")
    legend(ax)
    return epoch_axis(rows, ax)


def summary(found: dict[str, pd.DataFrame], ax: Axes, *, metric: str, **where: str) -> Axes:
    """A metric at the last epoch, a line for each of these runs: geometric mean, 95 % t-interval, seeds as points.

    Of `SHARES` the plain mean. The band is the interval of the first of them, the baseline.
    """
    labels, share = [], metric in SHARES
    for i, (label, rows) in enumerate(found.items()):
        at_end = final(rows, metric, **where).astype(float)
        middle, low, high = mean_and_interval(at_end, log=not share, share=share)
        colour = COLOURS["black" if i else "blue"]
        ax.errorbar(middle, i, xerr=[[middle - low], [high - middle]], fmt="o", color=colour, capsize=3, ms=5)
        ax.plot(at_end, [i + 0.28] * len(at_end), ".", color=colour, ms=3)
        if not i:
            ax.axvspan(low, high, color=colour, alpha=0.15, linewidth=0)
        labels.append(f"{label} ({len(at_end)})")
    log_scale(ax, "x")
    ax.set_yticks(range(len(labels)), labels, fontsize=8.5)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    return ax
