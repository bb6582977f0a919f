"""Experiment 1: the shape of error and collapse against width, two networks under two optimisers."""

import math
from collections.abc import Callable

import pandas as pd

from nclib.claims.bardazzi2026.study import (
    ARCHITECTURES,
    CONFIGURATIONS,
    FRESH,
    NOISY,
    TRAINING,
    WHOLE,
    WIDTHS,
    frame_at_end,
    in_full,
    judged_runs,
    longest,
    own_settings,
    parameters,
)
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import Verdict, judged, mean_over_seeds


def model_wise(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of experiment 1 under each optimiser's own settings, of the longest runs there are in full.

    Missing unless, at one of `LENGTHS`, every combination has the same seeds, and at least three.
    """
    return longest(table, _of_length)


def _of_length(table: pd.DataFrame, epochs: int) -> pd.DataFrame:
    rows = own_settings(judged_runs(table, epochs=epochs, feature_dim=0, width=list(WIDTHS), **TRAINING))
    return in_full(rows, ["architecture", "optimizer", "width"], len(CONFIGURATIONS) * len(WIDTHS))


def curves(rows: pd.DataFrame, metric: str, **where: object) -> dict[tuple[str, str], pd.DataFrame]:
    """For each configuration a frame of the metric at the last epoch, seeds by widths."""
    frame = frame_at_end(rows, metric, ["architecture", "optimizer", "width"], **where)
    return {configuration: frame[configuration] for configuration in CONFIGURATIONS}


def cross_fitted(errors: pd.DataFrame) -> pd.DataFrame:
    """For each seed the widths of peak and first minimum that the *other* seeds' mean error shows.

    The peak is looked for from width 6 on, where the networks no longer underfit; the minimum at smaller
    widths. Choosing on one half and reading off the other keeps the maximum's selection out of its height.
    """
    chosen = {}
    for seed in errors.index:
        others = errors.drop(index=seed).mean()
        peak = int(others[[w for w in errors if w > WIDTHS[1]]].idxmax())
        chosen[seed] = {"peak": peak, "minimum": int(others[[w for w in errors if w < peak]].idxmin())}
    return pd.DataFrame(chosen).T


def over_configurations(per_configuration: dict[tuple[str, str], pd.Series], worst: str) -> pd.Series:
    """One value per seed: the smallest or largest over the four configurations."""
    frame = pd.DataFrame(per_configuration)
    # An undefined value must stay one: it makes the verdict inconclusive.
    return frame.min(axis=1, skipna=False) if worst == "min" else frame.max(axis=1, skipna=False)


def _read(frame: pd.DataFrame, widths: pd.Series) -> pd.Series:
    return pd.Series({seed: frame.loc[seed, width] for seed, width in widths.items()})


def judge_model_wise(value: Callable[[pd.DataFrame], pd.Series], **threshold):
    """The judge of one value a seed, read from the rows of experiment 1."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        return mean_over_seeds(value(model_wise(table)), **threshold)

    return judge


def _peak_height(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "error", **FRESH)
    heights = {}
    for name, errors in frames.items():
        at = cross_fitted(errors)
        beside = pd.concat([_read(errors, at.minimum), errors[WIDTHS[-1]]], axis=1).max(axis=1)
        heights[name] = _read(errors, at.peak) - beside
    return over_configurations(heights, "min")


def _peaks_in_range(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "error", **FRESH)
    inside = {}
    for (architecture, optimizer), errors in frames.items():
        peaks = errors[[w for w in WIDTHS if w > WIDTHS[1]]].idxmax(axis=1)
        inside[architecture, optimizer] = peaks.map(
            lambda w, a=architecture: float(1e3 <= parameters(a, w) <= 1e4)
        )
    return pd.DataFrame(inside).mean(axis=1)


def _memorised_at_peak(rows: pd.DataFrame) -> pd.Series:
    errors = curves(rows, "error", **FRESH)
    wrong = curves(rows, "error", split="train_mislabelled", labels="noisy", layer="features")
    return over_configurations({c: 1 - _read(wrong[c], cross_fitted(errors[c]).peak) for c in errors}, "min")


def _decades(rows: pd.DataFrame) -> pd.Series:
    counts = pd.concat(curves(rows, "parameters", **WHOLE), axis=1)
    return (counts.max(axis=1) / counts.min(axis=1)).map(math.log10)


def _peak_at_12(rows: pd.DataFrame) -> pd.Series:
    errors = curves(rows, "error", **FRESH)["resnet1d", "adam"]
    return (errors[[w for w in WIDTHS if w > WIDTHS[1]]].idxmax(axis=1) == 12).astype(float)


def _roughness(errors: pd.DataFrame) -> pd.Series:
    """Mean absolute second difference of each seed's error from width to width."""
    return errors.diff(axis=1).diff(axis=1).iloc[:, 2:].abs().mean(axis=1, skipna=False)


def _peak_at_8(rows: pd.DataFrame) -> pd.Series:
    errors = curves(rows, "error", **FRESH)["resnet1d", "adam"]
    return (errors[[w for w in WIDTHS if w > WIDTHS[1]]].idxmax(axis=1) == 8).astype(float)


def _sgd_smoother(rows: pd.DataFrame) -> pd.Series:
    errors = curves(rows, "error", **FRESH)
    differences = [_roughness(errors[a, "sgd"]) - _roughness(errors[a, "adam"]) for a in ARCHITECTURES]
    return pd.concat(differences, axis=1).max(axis=1, skipna=False)


def _nc1_at_peak(rows: pd.DataFrame) -> pd.Series:
    errors, nc1 = curves(rows, "error", **FRESH), curves(rows, "nc1_trace_ratio_weighted", **NOISY)
    ratios = {}
    for c in errors:
        at = cross_fitted(errors[c])
        ratios[c] = _read(nc1[c], at.peak) / _read(nc1[c], at.minimum)
    return over_configurations(ratios, "min")


def _nc1_hill(rows: pd.DataFrame) -> pd.Series:
    errors, nc1 = curves(rows, "error", **FRESH), curves(rows, "nc1_trace_ratio_weighted", **NOISY)
    hills = {}
    for c in errors:
        at = cross_fitted(errors[c])
        beside = pd.concat([_read(nc1[c], at.minimum), nc1[c][WIDTHS[-1]]], axis=1)
        hills[c] = _read(nc1[c], at.peak) / beside.max(axis=1, skipna=False)
    return over_configurations(hills, "min")


def _nc1_restored(rows: pd.DataFrame) -> pd.Series:
    return over_configurations(
        {c: f[64] for c, f in curves(rows, "nc1_trace_ratio_weighted", **NOISY).items()}, "max"
    )


def _nc1_two_orders(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "nc1_trace_ratio_weighted", **NOISY)
    return over_configurations({c: f.max(axis=1) / f[64] for c, f in frames.items()}, "min")


CLAIMS = (
    _claim(
        "peak", "Test error has a peak in width between two lower stretches (double descent).",
        "slides, results 1",
        "smallest height of the peak over four configurations, widths chosen on the other seeds",
        "above 0.02", judge_model_wise(_peak_height, above=0.02), "0.12 to 0.17, one seed",
        numbers=("2",),
    ),
    _claim(
        "peak-range", "The peak lies between 10³ and 10⁴ parameters.", "slides, results 1",
        "share of the four configurations whose peak lies there", "above 0.99",
        judge_model_wise(_peaks_in_range, above=0.99), "4 of 4 (3,440 to 5,936 parameters)",
        numbers=("2",),
    ),
    _claim(
        "memorisation", "At the peak all capacity goes into memorising the noise.", "slides, results 1",
        "smallest share of wrong labels fitted at the peak over four configurations", "above 0.9",
        judge_model_wise(_memorised_at_peak, above=0.9), "not measured",
        numbers=("3",),
    ),
    _claim(
        "nc1-explodes", "Within-class variance explodes in the critical regime.", "slides, results 1",
        "NC1 at the error's peak over NC1 at its first minimum, smallest of four configurations", "above 2",
        judge_model_wise(_nc1_at_peak, above=2.0, ratio=True), "1.2 to 2.1",
        numbers=("5",),
    ),
    _claim(
        "nc1-restored", "Neural collapse is restored above 10⁴ parameters.", "slides, results 1",
        "largest NC1 (trace ratio, noisy labels) at width 64 over four configurations", "below 0.1",
        judge_model_wise(_nc1_restored, below=0.1), "0.10 to 0.33",
        numbers=("6",),
    ),
    _claim(
        "nc1-two-orders", "NC1 falls by more than two orders of magnitude.", "README",
        "largest NC1 over widths, over NC1 at width 64, smallest of four configurations", "above 100",
        judge_model_wise(_nc1_two_orders, above=100.0, ratio=True), "6 to 28",
        numbers=("R2",),
    ),
    _claim(
        "span", "Widths from 2 to 64 span 10² to 10⁵ parameters.", "slides, setup",
        "decades between the smallest and the largest network", "above 2.5",
        judge_model_wise(_decades, above=2.5), "2.97 (94 to 88,256 parameters)", registered="after",
        numbers=("1",),
    ),
    _claim(
        "peak-at-12", "Width 12 lies exactly on the peak (ResNet1D, Adam).", "report, experiment 2",
        "share of seeds whose largest test error from width 6 on is at width 12", "above 0.99",
        judge_model_wise(_peak_at_12, above=0.99), "16, and 24 in the replicate", registered="after",
        numbers=("16",),
    ),
    _claim(
        "peak-at-8", "Width 8 is critical (ResNet1D, Adam).", "slides, CKA 1",
        "share of seeds whose largest test error from width 6 on is at width 8", "above 0.99",
        judge_model_wise(_peak_at_8, above=0.99), "16, and 24 in the replicate", registered="after",
        numbers=("16",),
    ),
    _claim(
        "sgd-smoother", "Double descent is smoother under SGD.", "slides, results 2",
        "mean absolute second difference of test error from width to width, SGD minus Adam, "
        "larger of two networks", "below 0",
        judge_model_wise(_sgd_smoother, below=0.0), "", registered="after",
        numbers=("7",),
    ),
    _claim(
        "nc-destroyed-rebuilt", "Double descent is the destruction and reconstruction of neural collapse.",
        "slides, conclusions",
        "NC1 at the error's peak over the larger of NC1 at its first minimum and at width 64, "
        "smallest of four configurations", "above 1",
        judge_model_wise(_nc1_hill, above=1.0, ratio=True), "1.2 to 2.1", registered="after",
        numbers=("23",),
    ),
)  # fmt: skip
