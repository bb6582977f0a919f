"""Hui, Belkin & Nakkiran (2022): test features do not collapse, neither onto their class mean nor onto any."""

import pandas as pd

from nclib.claims.terminal_phase import TEST, THROUGH, TRAIN, end_over_start, largest, through
from nclib.claims.terminal_phase import claim as _claim
from nclib.claims.verdict import Verdict, by_seed, judged, mean_over_seeds

_COMMON = {"source": "hui2022", "page": "11_test_and_layers"}


@judged
def _less_than_training_features(table: pd.DataFrame) -> Verdict:
    rows = largest(table)
    # On the training images the squared distance from the training mean over Tr Sigma_B is NC1 by traces.
    test = end_over_start(rows, "test_collapse_strong", TEST)
    train = end_over_start(rows, "nc1_trace_ratio", TRAIN)
    return mean_over_seeds(by_seed(test / train, rows), above=1.0, ratio=True)


CLAIMS = (
    _claim(
        "strong", "Test features do not collapse onto the training mean of their class (strong test collapse).",
        "abstract", f"mean squared distance from it over Tr Σ_B, {THROUGH}",
        "above 0.5", through("test_collapse_strong", largest, TEST, above=0.5),
        **_COMMON,
    ),
    _claim(
        "weak", "Test features do not collapse onto whichever training mean is nearest (weak test collapse).",
        "abstract", f"mean squared distance from it over Tr Σ_B, {THROUGH}",
        "above 0.5", through("test_collapse_weak", largest, TEST, above=0.5),
        **_COMMON,
    ),
    # The two above are met by training features, too, where these fall to no less than half: this compares them.
    _claim(
        "strong-beside-training", "Test features collapse less than training features.", "abstract",
        f"mean squared distance from the training mean over Tr Σ_B, {THROUGH}, of test over training features",
        "above 1", _less_than_training_features, registered="after", **_COMMON,
    ),
)  # fmt: skip
