"""Galanti, György & Hutter (2022): collapse on training images is not collapse on test images."""

import pandas as pd

from nclib.claims.terminal_phase import TEST, TRAIN, largest
from nclib.claims.terminal_phase import claim as _claim
from nclib.claims.verdict import Verdict, by_seed, final_epoch, judged, mean_over_seeds, per_run


@judged
def _test_against_train(table: pd.DataFrame) -> Verdict:
    rows = largest(table)
    end = final_epoch(rows)
    ratio = per_run(rows, "cdnv", end, **TEST) / per_run(rows, "cdnv", end, **TRAIN)
    return mean_over_seeds(by_seed(ratio, rows), above=10.0, ratio=True)


CLAIMS = (
    _claim(
        "test-variability", "Class-distance normalised variance is ten times larger on test data, or more.",
        "as summarised in Kothapalli (2023), of Mini-ImageNet", "test CDNV over train CDNV at the last epoch",
        "above 10", _test_against_train, source="galanti2022", page="11_test_and_layers",
    ),
)  # fmt: skip
