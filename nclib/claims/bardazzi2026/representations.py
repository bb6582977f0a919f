"""Experiment 4: similarity (CKA) between layers of two networks, and of one with its own past."""

from collections.abc import Callable

import pandas as pd

from nclib.claims.bardazzi2026.correlation import spearman
from nclib.claims.bardazzi2026.study import OWN, PROTOCOL, in_full, judged_runs, longest, over_epochs
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import (
    Verdict,
    by_seed,
    every_run,
    final_epoch,
    judged,
    mean_over_seeds,
    per_run,
)

SEEDS, ARCHITECTURES = (32, 32), (8, 64)
"""Widths of the networks A and B of a pair: equal (the seeds differ), and not (the networks differ)."""


def pairs(table: pd.DataFrame, widths: tuple[int, int]) -> pd.DataFrame:
    """Rows of the longest recorded pairs of these widths under the study's settings."""

    def of_length(table: pd.DataFrame, epochs: int) -> pd.DataFrame:
        rows = judged_runs(
            table, architecture="resnet1d", width=widths[0], width_b=widths[1], epochs=epochs,
            shared_init=False, **OWN["adam"], **PROTOCOL,
        )  # fmt: skip
        return in_full(rows, ["width"], 1)

    return longest(table, of_length)


def _value(
    rows: pd.DataFrame, layer: str, epoch: pd.Series, metric: str = "cka_linear_debiased", split: str = "test"
) -> pd.Series:
    return by_seed(per_run(rows, metric, epoch, split=split, labels="none", layer=layer), rows)


def _judge(widths: tuple[int, int], value: Callable[[pd.DataFrame], pd.Series], **threshold):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        return mean_over_seeds(value(pairs(table, widths)), **threshold)

    return judge


def _similarity(widths: tuple[int, int], layer: str, metric: str = "cka_linear_debiased", **threshold):
    return _judge(widths, lambda rows: _value(rows, layer, final_epoch(rows), metric), **threshold)


def _above_untrained(widths: tuple[int, int], layer: str):
    def gained(rows: pd.DataFrame) -> pd.Series:
        last = final_epoch(rows)
        return _value(rows, layer, last) - _value(rows, layer, last * 0)

    return _judge(widths, gained, above=0.0)


@judged
def _rotation_changes_nothing(table: pd.DataFrame) -> Verdict:
    rows = pairs(table, SEEDS)
    last = final_epoch(rows)
    before, after = (
        _value(rows, "features|features", last, m) for m in ("cka_linear_debiased", "cka_linear_aligned")
    )
    return every_run((after - before).abs(), below=1e-4)


def _of_a(rows: pd.DataFrame, metric: str) -> pd.Series:
    """What was measured of network A on noisy training labels, at the end."""
    values = per_run(rows, metric, final_epoch(rows), split="train", labels="noisy", layer="A")
    return by_seed(values, rows)


def _drift(rows: pd.DataFrame) -> pd.DataFrame:
    where = {"split": "test", "labels": "none", "layer": "features@1|features"}
    return over_epochs(rows, "cka_linear_debiased", **where)


def _still_drifting(rows: pd.DataFrame) -> pd.Series:
    since_epoch_1 = _drift(rows)
    *_, before, last = since_epoch_1.columns
    return since_epoch_1[last] - since_epoch_1[before]


def _drift_follows_compression(rows: pd.DataFrame) -> pd.Series:
    """Rank correlation over epochs from 10 on of similarity to epoch 1 with NC1: both fall, if one drives the other."""
    drift = _drift(rows)
    nc1 = over_epochs(rows, "nc1_trace_ratio", split="train", labels="noisy", layer="A")
    late = [epoch for epoch in drift if epoch >= 10]
    return pd.Series(
        {
            seed: spearman(drift.loc[seed, late].to_numpy(), nc1.loc[seed, late].to_numpy())
            for seed in drift.index
        }
    )


_CKA = {"study": "representations", "page": "34_representations"}

CLAIMS = (
    _claim(
        "cka-invariant", "CKA is invariant to rotation and scale.", "slides, CKA",
        "largest change of the features' debiased CKA by the best rotation and scale, over all pairs",
        "below 0.0001", _rotation_changes_nothing, "theory", numbers=("12",), **_CKA,
    ),
    _claim(
        "cka-stem-shared", "Small and large networks come to share low-level features.", "slides, CKA 1",
        "debiased CKA of the stems at widths 8 and 64, trained minus untrained", "above 0",
        _above_untrained(ARCHITECTURES, "stem|stem"), "0.94 trained; no baseline", numbers=("13",), **_CKA,
    ),
    _claim(
        "cka-block1-shared", "They share the first block's features, too.", "slides, CKA 1",
        "debiased CKA of the first blocks at widths 8 and 64, trained minus untrained", "above 0",
        _above_untrained(ARCHITECTURES, "block1|block1"), "0.57 trained; no baseline",
        registered="after", numbers=("13",), **_CKA,
    ),
    _claim(
        "cka-deep-differ", "Their deep layers are far apart.", "slides, CKA 1",
        "debiased CKA of the features at widths 8 and 64", "below 0.5",
        _similarity(ARCHITECTURES, "features|features", below=0.5), "0.34 (biased)", numbers=("14",), **_CKA,
    ),
    _claim(
        "cka-deep-opposed", "Their deep layers are diametrically opposed.", "slides, CKA 1",
        "debiased CKA of the features at widths 8 and 64", "below 0.1",
        _similarity(ARCHITECTURES, "features|features", below=0.1), "0.34 (biased)",
        registered="after", numbers=("14",), **_CKA,
    ),
    _claim(
        "cka-dimension-explains", "They differ because width 8 lacks the dimensions for a simplex.",
        "slides, CKA 1",
        "debiased CKA of the features at widths 8 and 64, of which eight dimensions alone leave √(8/9) = 0.943",
        "above 0.893", _similarity(ARCHITECTURES, "features|features", above=0.893), "0.34 (biased)",
        registered="after", numbers=("15",), **_CKA,
    ),
    _claim(
        "cka-stem-converges", "The stem converges almost at once.", "slides, CKA 2",
        "debiased CKA of the stem after epoch 1 with the stem at the end", "above 0.95",
        _similarity(SEEDS, "stem@1|stem", above=0.95), "0.981 (biased)", numbers=("17", "25"), **_CKA,
    ),
    _claim(
        "cka-deep-drifts", "Deep layers drift massively.", "slides, CKA 2",
        "debiased CKA of the features after epoch 1 with those at the end", "below 0.5",
        _similarity(SEEDS, "features@1|features", below=0.5), "0.283 (biased)", numbers=("18",), **_CKA,
    ),
    _claim(
        "cka-deep-drifts-on", "Deep layers drift constantly, to the end.", "slides, CKA 2",
        "debiased CKA of the features with those after epoch 1, last minus last but one measurement", "below 0",
        _judge(SEEDS, _still_drifting, below=0.0), "+0.07 from epoch 1000 to 2000 (biased)",
        registered="after", numbers=("18", "19"), **_CKA,
    ),
    _claim(
        "cka-drift-at-zero-loss", "They drift while the loss is about zero.", "slides, CKA 2",
        "training loss on noisy labels at the end of the runs whose drift is judged", "below 0.01",
        _judge(SEEDS, lambda rows: _of_a(rows, "loss"), below=0.01), "not measured",
        registered="after", numbers=("19",), **_CKA,
    ),
    _claim(
        "cka-drift-is-compression", "The drift is driven by the compression of within-class variance.",
        "slides, CKA 2",
        "Spearman correlation over epochs from 10 on of NC1 and the features' CKA with epoch 1", "above 0.5",
        _judge(SEEDS, _drift_follows_compression, above=0.5), "not measured",
        registered="after", numbers=("19",), **_CKA,
    ),
    _claim(
        "cka-stem-seeds", "Training makes the stem quasi-deterministic across seeds.", "slides, CKA 3",
        "debiased CKA of two seeds' stems, trained minus untrained", "above 0",
        _above_untrained(SEEDS, "stem|stem"), "0.968 trained; no baseline", numbers=("20",), **_CKA,
    ),
    _claim(
        "cka-features-seeds", "Two seeds' features agree only to about 0.59.", "slides, CKA 3",
        "debiased CKA of two seeds' features", "between 0.49 and 0.69",
        _similarity(SEEDS, "features|features", above=0.49, below=0.69), "0.590 ± 0.012 (biased)",
        numbers=("21",), **_CKA,
    ),
    _claim(
        "cka-seeds-rotations", "Two seeds' features differ by isomorphic rotations.", "slides, CKA 3",
        "debiased CKA of two seeds' features after the best rotation is undone", "above 0.9",
        _similarity(SEEDS, "features|features", "cka_linear_aligned", above=0.9), "not measured",
        numbers=("22",), **_CKA,
    ),
    _claim(
        "margins-maximised", "The last layer maximises the margins.", "slides, CKA 2",
        "smallest margin of network A over the training samples, noisy labels (a maximal one is positive)",
        "above 0", _judge(SEEDS, lambda rows: _of_a(rows, "margin_min"), above=0.0), "not measured",
        numbers=("25",), **_CKA,
    ),
)  # fmt: skip
