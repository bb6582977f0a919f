"""Experiment 4: similarity (CKA) between layers of two networks, and of one with its own past."""

import pandas as pd

from nclib.claims.bardazzi2026.study import EPOCHS
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import Verdict, by_seed, evidence, final_epoch, judged, mean_over_seeds, per_run


def _pairs(table: pd.DataFrame, width: int, width_b: int) -> pd.DataFrame:
    return evidence(
        table, architecture="resnet1d", width=width, width_b=width_b, optimizer="adam", lr=1e-3,
        schedule="constant", weight_decay=1e-4, epochs=EPOCHS, label_noise=0.2, precision="float32",
    )  # fmt: skip


def _cka(rows: pd.DataFrame, pair: str, epoch: pd.Series, metric: str = "cka_linear_debiased") -> pd.Series:
    values = per_run(rows, metric, epoch, split="test", labels="none", layer=pair)
    return by_seed(values, rows)


def _similarity(widths: tuple[int, int], pair: str, **threshold):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = _pairs(table, *widths)
        return mean_over_seeds(_cka(rows, pair, final_epoch(rows)), **threshold)

    return judge


def _above_untrained(widths: tuple[int, int], pair: str):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = _pairs(table, *widths)
        last = final_epoch(rows)
        return mean_over_seeds(_cka(rows, pair, last) - _cka(rows, pair, last * 0), above=0.0)

    return judge


_CKA = {"study": "representations", "page": "05_representations"}

CLAIMS = (
    _claim(
        "cka-stem-shared", "Small and large networks come to share low-level features.", "slides, CKA 1",
        "debiased CKA of the stems at widths 8 and 64, trained minus untrained", "above 0",
        _above_untrained((8, 64), "stem|stem"), "0.94 trained; no baseline", **_CKA,
    ),
    _claim(
        "cka-deep-differ", "Their deep layers are far apart.", "slides, CKA 1",
        "debiased CKA of the features at widths 8 and 64", "below 0.5",
        _similarity((8, 64), "features|features", below=0.5), "0.34 (biased)", **_CKA,
    ),
    _claim(
        "cka-stem-converges", "The stem converges almost at once.", "slides, CKA 2",
        "debiased CKA of the stem after epoch 1 with the stem at the end", "above 0.95",
        _similarity((32, 32), "stem@1|stem", above=0.95), "0.981 (biased)", **_CKA,
    ),
    _claim(
        "cka-deep-drifts", "Deep layers drift massively.", "slides, CKA 2",
        "debiased CKA of the features after epoch 1 with those at the end", "below 0.5",
        _similarity((32, 32), "features@1|features", below=0.5), "0.283 (biased)", **_CKA,
    ),
    _claim(
        "cka-stem-seeds", "Training makes the stem quasi-deterministic across seeds.", "slides, CKA 3",
        "debiased CKA of two seeds' stems, trained minus untrained", "above 0",
        _above_untrained((32, 32), "stem|stem"), "0.968 trained; no baseline", **_CKA,
    ),
    _claim(
        "cka-features-seeds", "Two seeds' features agree only to about 0.59.", "slides, CKA 3",
        "debiased CKA of two seeds' features", "between 0.49 and 0.69",
        _similarity((32, 32), "features|features", above=0.49, below=0.69), "0.590 ± 0.012 (biased)", **_CKA,
    ),

)  # fmt: skip
