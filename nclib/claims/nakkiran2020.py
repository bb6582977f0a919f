"""Nakkiran et al. (2020): what double descent predicts, tried on the runs of the MNIST-1D study's networks."""

import math

import pandas as pd

from nclib.claims.bardazzi2026 import epoch_wise
from nclib.claims.bardazzi2026.model_wise import cross_fitted
from nclib.claims.bardazzi2026.study import (
    EPOCHS,
    FRESH,
    NOISY,
    OWN,
    TRAINING,
    frame_at_end,
    in_full,
    judged_runs,
)
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import Missing, Verdict, judged, mean_over_seeds

WIDTHS = (4, 6, 8, 12, 16, 24, 32, 64)
SIZES = (1000, 2000, 4000, 8000)
LEVELS = (0.0, 0.1, 0.2, 0.4)
INTERPOLATES = 0.1
"""Training error that counts as interpolation: the paper's heuristic."""


def sweep(table: pd.DataFrame, **varied: tuple) -> pd.DataFrame:
    """Rows of CNN1D under Adam over `WIDTHS`, with one thing varied: `train_size` or `label_noise`."""
    ((name, values),) = varied.items()
    common = TRAINING | {name: list(values)}
    rows = judged_runs(
        table, architecture="cnn1d", feature_dim=0, width=list(WIDTHS), epochs=EPOCHS, **OWN["adam"], **common
    )
    return in_full(rows, [name, "width"], len(values) * len(WIDTHS))


def slope(widths: pd.DataFrame) -> pd.Series:
    """By seed (row), the slope of log2 of a width against log2 of the training-set size (column)."""
    x = pd.Series({n: math.log2(n) for n in widths})
    x -= x.mean()
    return widths.map(math.log2) @ x / (x @ x)


def peak_widths(errors: pd.DataFrame) -> pd.DataFrame:
    """By seed and first level of the columns, the width (second level, from 6 on) with the largest test error."""
    groups = errors.columns.get_level_values(0).unique()
    beyond = {g: errors[g][[w for w in errors[g] if w > WIDTHS[0]]] for g in groups}
    return pd.DataFrame({g: frame.idxmax(axis=1) for g, frame in beyond.items()})


def threshold_widths(training: pd.DataFrame) -> pd.DataFrame:
    """By seed and first level of the columns, the least width whose training error is at most 10 %; NaN without one."""
    groups = training.columns.get_level_values(0).unique()
    reached = {g: training[g] <= INTERPOLATES for g in groups}
    return pd.DataFrame({g: at.idxmax(axis=1).where(at.any(axis=1)) for g, at in reached.items()})


@judged
def _peak_moves(table: pd.DataFrame) -> Verdict:
    errors = frame_at_end(sweep(table, train_size=SIZES), "error", ["train_size", "width"], **FRESH)
    return mean_over_seeds(slope(peak_widths(errors)), above=0.0)


@judged
def _threshold_moves(table: pd.DataFrame) -> Verdict:
    training = frame_at_end(sweep(table, train_size=SIZES), "error", ["train_size", "width"], **NOISY)
    thresholds = threshold_widths(training)
    for n in thresholds:
        if thresholds[n].isna().any():
            raise Missing(f"not every seed has a width with training error {INTERPOLATES:g} on {n} samples")
    return mean_over_seeds(slope(thresholds), above=0.0)


def heights(errors: pd.DataFrame) -> pd.Series:
    """By seed, the height of the peak over the first minimum and the widest, widths chosen on the other seeds."""
    at = cross_fitted(errors)
    read = {kind: pd.Series({s: errors.loc[s, w] for s, w in at[kind].items()}) for kind in at}
    beside = pd.concat([read["minimum"], errors[max(errors)]], axis=1)
    return read["peak"] - beside.max(axis=1, skipna=False)


@judged
def _noise_raises(table: pd.DataFrame) -> Verdict:
    errors = frame_at_end(sweep(table, label_noise=LEVELS), "error", ["label_noise", "width"], **FRESH)
    return mean_over_seeds(heights(errors[LEVELS[-1]]) - heights(errors[LEVELS[0]]), above=0.0)


def _epoch_wise(width: int, value, **threshold):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        return mean_over_seeds(value(epoch_wise.epoch_wise(table, width)), **threshold)

    return judge


_HERE = {"source": "nakkiran2020", "page": "31_controls"}
_OVER_TIME = _HERE | {"page": "32_epoch_wise"}
_NETWORK = "CNN1D under Adam"
CLAIMS = (
    _claim(
        "peak-moves", "With more training samples the peak moves to larger networks.", "section 7",
        f"slope of log₂ of the width with the largest test error against log₂ n, n = 1000 to 8000, {_NETWORK}",
        "above 0", _peak_moves, **_HERE,
    ),
    _claim(
        "threshold-moves", "So does the smallest network that fits its training labels.", "section 7",
        "slope of log₂ of the smallest width with training error at most 0.1 against log₂ n, "
        f"n = 1000 to 8000, {_NETWORK}", "above 0", _threshold_moves, **_HERE,
    ),
    _claim(
        "noise-raises-peak", "Label noise makes the peak.", "section 5",
        f"height of the peak at 40 % label noise minus that without noise, {_NETWORK}", "above 0",
        _noise_raises, **_HERE,
    ),
    _claim(
        "large-epoch-wise", "A large network shows double descent over epochs.", "section 6",
        "height of the hill in the averaged weights' test error over epochs, ResNet1D of width 64 under Adam",
        "above 0.02", _epoch_wise(epoch_wise.LARGE, epoch_wise.second_descent, above=0.02), **_OVER_TIME,
    ),
    _claim(
        "critical-u-curve", "A network that barely interpolates only gets worse after its minimum.", "section 6",
        "last test error of the averaged weights minus their least, ResNet1D of width 12 under Adam",
        "above 0.02", _epoch_wise(epoch_wise.CRITICAL, epoch_wise.final_rise, above=0.02), **_OVER_TIME,
    ),
)  # fmt: skip
