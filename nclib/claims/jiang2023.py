"""Jiang et al. (2023): below K - 1 dimensions training leads to softmax codes, which maximise the margin."""

import math

import pandas as pd

from nclib.claims.bardazzi2026.feature_dimension import dimension_curves
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import Verdict, judged, mean_over_seeds

BEST = {2: 1 - math.cos(2 * math.pi / 10)} | dict.fromkeys((5, 6, 7, 8), 1.0)
"""The largest one-versus-rest margin of ten directions in d dimensions, where it is known in closed form.

A regular polygon at d = 2; an orthoplex, or any code with a pair of opposites, where d + 2 <= K <= 2 d.
"""


@judged
def _reaches_the_code(table: pd.DataFrame) -> Verdict:
    at = {"schedule": "cosine", "split": "train", "labels": "none"}
    margins = dimension_curves(table, "one_vs_rest_margin_weights", tuple(BEST), **at)
    return mean_over_seeds((margins / pd.Series(BEST)).min(axis=1, skipna=False), above=0.9)


CLAIMS = (
    _claim(
        "softmax-code", "With fewer than K − 1 dimensions the classifiers form a softmax code.", "abstract",
        "one-versus-rest margin of the classifiers' directions over the largest there is, smallest of "
        "d = 2, 5, 6, 7, 8, cosine schedule", "above 0.9", _reaches_the_code,
        source="jiang2023", page="33_feature_dimension",
    ),
)  # fmt: skip
