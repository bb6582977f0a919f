"""Experiment 3: NC2 against the dimension of a linear projector before the classifier."""

from itertools import pairwise

import pandas as pd

from nclib.claims.bardazzi2026.study import DIMENSION_WIDTH, DIMENSIONS, EPOCHS, NOISY
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import Missing, Verdict, evidence, final_epoch, judged, mean_over_seeds, per_run


def dimension_curves(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A metric of experiment 3 on noisy training labels at the last epoch, seeds by feature dimensions."""
    rows = evidence(
        table, architecture="resnet1d", width=DIMENSION_WIDTH, optimizer="sgd", schedule="constant",
        epochs=EPOCHS, lr=0.01, weight_decay=5e-4, label_noise=0.2,
        feature_dim=list(DIMENSIONS), precision="float32",
    )  # fmt: skip
    values = per_run(rows, metric, final_epoch(rows), **NOISY)
    about = rows.drop_duplicates("run").set_index("run")[["feature_dim", "seed"]]
    if about.duplicated().any():
        raise Missing(
            "a seed stands for several runs of one feature dimension: the table must hold one of them"
        )
    frame = about.join(values.rename("value")).pivot(index="seed", columns="feature_dim", values="value")
    if list(frame) != list(DIMENSIONS) or frame.isna().any(axis=None):
        raise Missing("not every feature dimension is recorded with the same seeds")
    return frame


@judged
def _nc2_at_nine(table: pd.DataFrame) -> Verdict:
    return mean_over_seeds(dimension_curves(table, "nc2_gram_frobenius")[9], below=0.1)


@judged
def _largest_drop_at_nine(table: pd.DataFrame) -> Verdict:
    nc2 = dimension_curves(table, "nc2_gram_frobenius")
    steps = {b: (nc2[a] - nc2[b]) / (b - a) for a, b in pairwise(DIMENSIONS)}
    drops = pd.DataFrame(steps)
    return mean_over_seeds(drops[9] - drops.drop(columns=9).max(axis=1), above=0.0)


_DIMENSION = {"page": "04_feature_dimension"}

CLAIMS = (
    _claim(
        "nc2-zero-at-9", "NC2 falls to about zero at feature dimension d = 9.", "slides, dimensional limits",
        "NC2 (unnormalised Gram distance) at d = 9", "below 0.1", _nc2_at_nine, "1.92 and 1.75", **_DIMENSION,
    ),
    _claim(
        "nc2-drop-at-9", "NC2 falls vertically exactly at d = 9.", "slides, dimensional limits",
        "drop of NC2 from d = 8 to 9 minus the largest other drop per dimension", "above 0",
        _largest_drop_at_nine, "−1.2 and −1.0", **_DIMENSION,
    ),
)  # fmt: skip
