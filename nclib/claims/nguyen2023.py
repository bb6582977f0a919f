"""Nguyen, Levie, Lienen, Kutyniok & Hüllermeier (2023): memorised wrong labels loosen the collapse."""

import pandas as pd

from nclib.claims.terminal_phase import NOISY, TEST, TRAIN, against, varied
from nclib.claims.terminal_phase import claim as _claim
from nclib.claims.verdict import Verdict, by_seed, final_epoch, judged, mean_over_seeds, per_run

_NOISY, _CLEAN = varied(label_noise=0.2), varied()
_COMMON = {"source": "nguyen2023", "page": "12_what_it_needs"}


@judged
def _training_scatter(table: pd.DataFrame) -> Verdict:
    noisy, clean = (
        by_seed(per_run(rows, "nc1_trace_ratio", final_epoch(rows), **labels), rows)
        for rows, labels in ((_NOISY(table), NOISY), (_CLEAN(table), TRAIN))
    )
    paired = noisy.index.intersection(clean.index)
    return mean_over_seeds(noisy[paired] / clean[paired], above=1.0, ratio=True)


CLAIMS = (
    _claim(
        "training", "Wrong labels that are memorised keep the training features from collapsing as far.", "abstract",
        "Tr Σ_W / Tr Σ_B with 20 % of the labels permuted over that with none, last epoch", "above 1",
        _training_scatter, **_COMMON,
    ),
    _claim(
        "test", "Memorised wrong labels dilate the test features of a class (memorisation-dilation).", "abstract",
        "test CDNV with 20 % of the labels permuted over that with none, last epoch", "above 1",
        against("cdnv", _NOISY, _CLEAN, TEST, above=1.0), **_COMMON,
    ),
)  # fmt: skip
