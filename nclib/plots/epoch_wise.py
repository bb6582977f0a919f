"""Figures of the epoch-wise chapter: error, collapse and memorised labels over training.

What draws one panel takes the rows of one network under one learning-rate schedule (`PANEL`), or of one network
(`NETWORK`); `nclib.plots.mnist1d.panels` deals a table out to them.
"""

import math
from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nclib.plots.double_descent import interpolation, relabelling_offset, uncentred_nc3
from nclib.plots.mnist1d import (
    FRESH,
    NC1_LABEL,
    NC2_LABEL,
    TRAIN,
    TRAIN_CLEAN,
    K,
    at_end,
    of,
    random_means_nc2,
)
from nclib.plots.style import COLOURS, SHARES, half_width, interval, plain_log
from nclib.tables import select

NETWORK = ("width", "epochs")
PANEL = (*NETWORK, "schedule")
AVERAGED = {"layer": "averaged"}
"""Where a run keeps what it measured of the average of its weights."""
MISLABELLED = TRAIN | {"split": "train_mislabelled"}
CHANCE = 1 - 1 / K
"""Error of guessing: where the axis of errors ends, however wide an interval is."""
RATES = {"constant": "constant rate", "cosine": "cosine rate"}
_SCHEDULES = {"constant": COLOURS["blue"], "cosine": COLOURS["orange"]}


def by_epoch(rows: pd.DataFrame, metric: str, **where: object) -> pd.DataFrame:
    """A metric at every measured epoch from 1 on (a logarithmic axis has no 0), seeds by epochs.

    Raises KeyError when no run has it, and ValueError when a seed stands for several runs.
    """
    found = select(rows, metric=metric, **where)
    found = found[found.epoch > 0]
    if found.empty:
        raise KeyError(f"no run of this table has {metric} after epoch 0 with {where}")
    return found.pivot(index="seed", columns="epoch", values="value")


def difference(rows: pd.DataFrame) -> pd.DataFrame:
    """Error on fresh samples of the weights minus that of their average, seeds by epochs."""
    return by_epoch(rows, "error", **FRESH) - by_epoch(rows, "error", **FRESH | AVERAGED)


def final(rows: pd.DataFrame, metric: str, **where: object) -> pd.Series:
    """A metric by seed at the last epoch of one network's runs; KeyError when a run stops before it."""
    return at_end(rows, metric, by="epochs", **where).iloc[:, -1]


def stated(values: pd.Series) -> str:
    """The mean over seeds, and half its 95 % t-interval where there are three of them."""
    half = half_width(values)
    return f"{values.mean():.3f}" if math.isnan(half) else f"{values.mean():.3f} ± {half:.3f}"


def _title(rows: pd.DataFrame) -> str:
    """Width, schedule if there is one, and epochs."""
    schedules = list(rows.schedule.unique())
    rate = f", {RATES.get(schedules[0], schedules[0])}" if len(schedules) == 1 else ""
    return f"w = {rows.width.iloc[0]}{rate}: {rows.epochs.iloc[0]} epochs"


def _finish(rows: pd.DataFrame, ax: Axes, **settings: object) -> Axes:
    """Title, labels and a logarithmic axis of epochs."""
    ax.set(**{"title": _title(rows), "xscale": "log", "xlabel": "epoch"} | settings)
    ax.xaxis.set_major_locator(LogLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    return ax


def _line(values: pd.DataFrame, ax: Axes, label: str, colour: str, line: str = "-", **options: bool) -> None:
    """Mean and interval without markers: sixty epochs stand too close for them."""
    interval(values, ax, label=label, colour=COLOURS.get(colour, colour), line=line, marker="", **options)


# Panels of one network under one schedule


def errors(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Training error on noisy labels, fresh error of weights and average, and where training interpolates."""
    training = by_epoch(rows, "error", **TRAIN)
    _line(training, ax, "training error, noisy labels", "grey", "--", share=True)
    fresh = f"error on {int(rows.fresh_size.max()):,} fresh samples"
    _line(by_epoch(rows, "error", **FRESH), ax, f"{fresh}, weights", "blue", share=True)
    averaged = by_epoch(rows, "error", **FRESH | AVERAGED)
    _line(averaged, ax, f"{fresh}, averaged weights", "orange", "-.", share=True)
    for at_most, style in ((0.1, (0, (6, 3))), (0.01, (0, (1, 2)))):
        epoch = interpolation(training, at_most)
        if epoch is not None:
            label = f"mean training error first ≤ {at_most:.0%}"
            ax.axvline(epoch, color=COLOURS["black"], linestyle=style, linewidth=1, label=label)
    return _finish(rows, ax, ylabel="error", ylim=(0, CHANCE))


def spikes(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Fresh error of the weights minus that of their average: every seed, their mean and its interval."""
    values = difference(rows)
    for seed in values.index:
        ax.plot(values.columns, values.loc[seed], ".", ms=3, color=COLOURS["sky"], label="one seed")
    _line(values, ax, "mean over seeds", "blue")
    ax.axhline(0, color=COLOURS["black"], linewidth=1)
    return _finish(rows, ax, ylabel="error: weights − average")


def memorisation(rows: pd.DataFrame, ax: Axes) -> Axes:
    """Of the training samples with a wrong label: the share predicted as labelled, and as they truly are."""
    kinds = (("noisy", "the wrong label", "orange"), ("clean", "the true label", "blue"))
    for where, whose, line in (({}, "weights", "-"), (AVERAGED, "averaged weights", "--")):
        for labels, what, colour in kinds:
            share = 1 - by_epoch(rows, "error", **MISLABELLED | {"labels": labels} | where)
            _line(share, ax, f"predicted as {what}, {whose}", colour, line, share=True)
    return _finish(rows, ax, ylabel="share of mislabelled samples", ylim=(0, 1.02))


def nc1(rows: pd.DataFrame, ax: Axes) -> Axes:
    """NC1 of the training features on noisy and on clean labels, with the offset that relabelling makes."""
    metric = "nc1_trace_ratio_weighted"
    _line(by_epoch(rows, metric, **TRAIN), ax, "on noisy labels", "blue", log=True)
    _line(
        by_epoch(rows, metric, **TRAIN | AVERAGED),
        ax,
        "on noisy labels, averaged weights",
        "orange",
        "-.",
        log=True,
    )
    _line(by_epoch(rows, metric, **TRAIN_CLEAN), ax, "on clean labels", "green", "--", log=True)
    offset = relabelling_offset(rows.label_noise.iloc[0], rows.noise_model.iloc[0])
    if offset > 0:
        label = f"collapsed on the other label set: {offset:.4f}"
        ax.axhline(offset, color=COLOURS["black"], linestyle=":", linewidth=1.2, label=label)
    _finish(rows, ax, ylabel=NC1_LABEL, yscale="log")
    plain_log(ax.yaxis)
    return ax


def nc3(rows: pd.DataFrame, ax: Axes) -> Axes:
    """NC3 on the study's scale, with its uncentred and with centred means, and what not centring alone adds."""
    _line(by_epoch(rows, "nc3_rows_uncentred", **TRAIN), ax, "uncentred means (the study's)", "blue")
    alone = uncentred_nc3(by_epoch(rows, "global_mean_ratio", **TRAIN))
    _line(alone, ax, "uncentred means, if perfectly aligned", "pink", ":")
    centred = (2 * K * by_epoch(rows, "nc3_cosine", **TRAIN)) ** 0.5
    _line(centred, ax, "centred means", "green", "--")
    label = r"unrelated directions: $\sqrt{2K}$"
    ax.axhline((2 * K) ** 0.5, color=COLOURS["black"], linestyle=":", linewidth=1.2, label=label)
    return _finish(rows, ax, ylabel="NC3: distance of unit rows", ylim=(0, 5))


# Panels of one network


def _by_schedule(rows: pd.DataFrame, ax: Axes, metric: str) -> None:
    """A metric of weights and average under every schedule of one network."""
    share = metric in SHARES
    for schedule in rows.schedule.unique():
        mine, colour = of(rows, schedule=schedule), _SCHEDULES.get(schedule, COLOURS["green"])
        name = RATES.get(schedule, schedule)
        _line(by_epoch(mine, metric, **TRAIN), ax, f"{name}, weights", colour, share=share)
        averaged = by_epoch(mine, metric, **TRAIN | AVERAGED)
        _line(averaged, ax, f"{name}, averaged weights", colour, "--", share=share)


def nc2(rows: pd.DataFrame, ax: Axes, *, floor: Callable[[int, int], float]) -> Axes:
    """NC2 in the study's convention, the least that the network's dimension allows, and random class means'."""
    _by_schedule(rows, ax, "nc2_gram_frobenius")
    d = int(rows.width.iloc[0]) * {"resnet1d": 1, "cnn1d": 2}[rows.architecture.iloc[0]]
    label = "random class means in as many dimensions"
    ax.axhline(random_means_nc2(d), color=COLOURS["grey"], linestyle=":", linewidth=1.3, label=label)
    label = "attainable floor"
    ax.axhline(floor(K, d), color=COLOURS["black"], linewidth=1.3, label=label)
    return _finish(rows, ax, ylabel=NC2_LABEL, ylim=(-0.2, None))


def nc4(rows: pd.DataFrame, ax: Axes) -> Axes:
    """NC4: share of training samples on which the classifier and the nearest class mean disagree."""
    _by_schedule(rows, ax, "nc4_mismatch")
    return _finish(rows, ax, ylabel="NC4: share of disagreement", ylim=(0, 1))
