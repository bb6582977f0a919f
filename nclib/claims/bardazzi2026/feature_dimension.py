"""Experiment 3: NC2 against the dimension of a linear projector before the classifier."""

from collections.abc import Iterable
from itertools import pairwise

import pandas as pd

from nclib.claims.bardazzi2026.study import (
    EPOCHS,
    NOISY,
    OWN,
    TRAINING,
    frame_at_end,
    in_full,
    judged_runs,
)
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import Verdict, judged, mean_over_seeds

DIMENSIONS = (2, 3, 5, 8, 9, 10, 12, 16)
"""The study's dimensions."""
ALL_DIMENSIONS = tuple(range(2, 17))
"""Ours: none left out."""
WIDTH = 32
"""Width of the network before the projector in the judged runs; the study has 64."""


def dimension_curves(
    table: pd.DataFrame, metric: str, dimensions: Iterable[int] = DIMENSIONS, **where: object
) -> pd.DataFrame:
    """A metric of experiment 3 at the last epoch, seeds by feature dimensions, all with the same seeds.

    Under the study's settings, a constant learning rate, and on noisy training labels, unless `where` says
    otherwise.
    """
    kind = {"schedule": "constant", "projector": True} | {k: v for k, v in where.items() if k not in NOISY}
    rows = judged_runs(
        table, architecture="resnet1d", width=WIDTH, epochs=EPOCHS, feature_dim=list(dimensions),
        **OWN["sgd"] | kind, **TRAINING,
    )  # fmt: skip
    rows = in_full(rows, ["feature_dim"], len(list(dimensions)))
    at = NOISY | {k: v for k, v in where.items() if k in NOISY}
    return frame_at_end(rows, metric, "feature_dim", **at)


@judged
def _nc2_at_nine(table: pd.DataFrame) -> Verdict:
    return mean_over_seeds(dimension_curves(table, "nc2_gram_frobenius")[9], below=0.1)


@judged
def _largest_drop_at_nine(table: pd.DataFrame) -> Verdict:
    nc2 = dimension_curves(table, "nc2_gram_frobenius")
    steps = {b: (nc2[a] - nc2[b]) / (b - a) for a, b in pairwise(DIMENSIONS)}
    drops = pd.DataFrame(steps)
    return mean_over_seeds(drops[9] - drops.drop(columns=9).max(axis=1), above=0.0)


@judged
def _knee(table: pd.DataFrame) -> Verdict:
    return mean_over_seeds(dimension_curves(table, "nc2_gram_frobenius")[9], above=0.8, below=1.2)


@judged
def _nc1_peaks_at_nine(table: pd.DataFrame) -> Verdict:
    nc1 = dimension_curves(table, "nc1_trace_ratio_weighted")
    beside = nc1[[8, 10]].max(axis=1, skipna=False)
    return mean_over_seeds(nc1[9] / beside, above=1.0, ratio=True)


def changepoint(curve: pd.Series) -> int:
    """The x from which on a curve is best described, in least squares, by a second constant."""

    def misfit(x: int) -> float:
        left, right = curve[curve.index < x], curve[curve.index >= x]
        return float(((left - left.mean()) ** 2).sum() + ((right - right.mean()) ** 2).sum())

    return min(curve.index[1:], key=misfit)


@judged
def _changepoint(table: pd.DataFrame) -> Verdict:
    nc2 = dimension_curves(table, "nc2_gram_frobenius", ALL_DIMENSIONS)
    return mean_over_seeds(nc2.apply(changepoint, axis=1), above=8.5, below=9.5)


_DIMENSION = {"page": "33_feature_dimension"}

CLAIMS = (
    _claim(
        "nc2-zero-at-9", "NC2 falls to about zero at feature dimension d = 9.", "slides, dimensional limits",
        "NC2 (unnormalised Gram distance) at d = 9", "below 0.1", _nc2_at_nine, "1.92 and 1.75",
        numbers=("11",), **_DIMENSION,
    ),
    _claim(
        "nc2-drop-at-9", "NC2 falls vertically exactly at d = 9.", "slides, dimensional limits",
        "drop of NC2 from d = 8 to 9 minus the largest other drop per dimension", "above 0",
        _largest_drop_at_nine, "−1.2 and −1.0", numbers=("11",), **_DIMENSION,
    ),
    _claim(
        "nc2-changepoint-at-9", "NC2 has its one threshold at d = 9.", "slides, dimensional limits",
        "first dimension of the second of two constants that describe NC2 over d = 2, 3, ..., 16 best",
        "between 8.5 and 9.5", _changepoint, "5, from eight dimensions", numbers=("11",), **_DIMENSION,
    ),
    _claim(
        "nc2-knee", "NC2 has a sharp knee at d = 9, at about 1.0.", "README",
        "NC2 (unnormalised Gram distance) at d = 9", "between 0.8 and 1.2", _knee, "1.92 and 1.75",
        registered="after", numbers=("R7",), **_DIMENSION,
    ),
    _claim(
        "nc1-peak-at-9", "NC1 peaks at d = 9, for geometric reasons.", "README",
        "NC1 (trace ratio, noisy labels) at d = 9 over the larger of those at 8 and 10", "above 1",
        _nc1_peaks_at_nine, "2.5, and 0.96 in the replicate", registered="after", numbers=("R6",), **_DIMENSION,
    ),
)  # fmt: skip
