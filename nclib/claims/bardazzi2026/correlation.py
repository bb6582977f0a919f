"""Experiment 1: does the test error follow collapse from width to width?"""

import numpy as np
import pandas as pd

from nclib.claims.bardazzi2026.model_wise import curves, judge_model_wise, model_wise
from nclib.claims.bardazzi2026.study import CONFIGURATIONS, FRESH, NOISY
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import Verdict, bootstrap_over_seeds, judged

NC1 = "nc1_trace_ratio_weighted"


def _by_seed(rows: pd.DataFrame) -> pd.Series:
    errors, nc1 = curves(rows, "error", **FRESH), curves(rows, NC1, **NOISY)
    return pd.DataFrame({c: errors[c].rank(axis=1).T.corrwith(nc1[c].rank(axis=1).T) for c in errors}).mean(
        axis=1, skipna=False
    )


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, ties their mean."""
    return pd.DataFrame(np.atleast_2d(values)).rank(axis=1).to_numpy()


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation of two curves; NaN when one is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(ranks(x)[0], ranks(y)[0])[0, 1])


def partial_spearman(x: np.ndarray, y: np.ndarray, given: np.ndarray) -> float:
    """Rank correlation of x and y that is left when both are freed of what goes with the ranks of a third."""
    xy, xz, yz = spearman(x, y), spearman(x, given), spearman(y, given)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.float64(xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)))


def _correlation(metric: str, *, least_width: int = 0, given_training_error: bool = False, **threshold):
    """Correlation of mean curves, averaged over configurations, its interval from resampled seeds."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = model_wise(table)
        frames = [curves(rows, "error", **FRESH), curves(rows, metric, **NOISY)]
        if given_training_error:
            frames.append(curves(rows, "error", **NOISY))
        arrays = [
            [frame[c][[w for w in frame[c] if w >= least_width]].to_numpy() for frame in frames]
            for c in CONFIGURATIONS
        ]
        correlate = partial_spearman if given_training_error else spearman

        def statistic(seeds: np.ndarray) -> float:
            return float(np.mean([correlate(*(a[seeds].mean(0) for a in each)) for each in arrays]))

        return bootstrap_over_seeds(statistic, len(arrays[0][0]), **threshold)

    return judge


_OVER = "mean of four configurations, interval from resampled seeds"
CLAIMS = (
    _claim(
        "nc1-correlation", "Generalisation error correlates perfectly with NC1.", "slides, results 1",
        "Spearman correlation over 11 widths, mean of four configurations", "above 0.9",
        judge_model_wise(_by_seed, above=0.9), "Pearson 0.06 to 0.68", numbers=("4",),
    ),
    _claim(
        "nc1-correlation-from-4", "It does so where the networks no longer underfit.", "slides, results 1",
        f"Spearman correlation of error and NC1 over the ten widths from 4 on, {_OVER}", "above 0.9",
        _correlation(NC1, least_width=4, above=0.9), "Pearson 0.54 to 0.94", registered="after", numbers=("4",),
    ),
    _claim(
        "nc1-correlation-partial", "Given the training error, NC1 still goes with the test error.",
        "slides, results 1", f"partial Spearman correlation of error and NC1 given training error, {_OVER}",
        "above 0", _correlation(NC1, given_training_error=True, above=0.0), "not measured",
        registered="after", numbers=("4",),
    ),
    _claim(
        "nc2-correlation", "Generalisation error correlates perfectly with NC2.", "report, experiment 1",
        f"Spearman correlation over 11 widths, {_OVER}", "above 0.9",
        _correlation("nc2_gram_frobenius", above=0.9), "Pearson −0.03 to 0.24 from width 4 on",
        registered="after", numbers=("4",),
    ),
    _claim(
        "nc3-correlation", "Generalisation error correlates perfectly with NC3.", "report, experiment 1",
        f"Spearman correlation over 11 widths, {_OVER}", "above 0.9",
        _correlation("nc3_rows_uncentred", above=0.9), "", registered="after", numbers=("4",),
    ),
    _claim(
        "nc4-correlation", "Generalisation error correlates perfectly with NC4.", "report, experiment 1",
        f"Spearman correlation over 11 widths, {_OVER}", "above 0.9",
        _correlation("nc4_mismatch", above=0.9), "", registered="after", numbers=("4",),
    ),
)  # fmt: skip
