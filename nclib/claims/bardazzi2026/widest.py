"""Experiment 1 at its widest: which network and optimiser collapses, and generalises, best."""

from collections.abc import Callable

import pandas as pd

from nclib.claims.bardazzi2026.model_wise import curves, judge_model_wise, over_configurations
from nclib.claims.bardazzi2026.study import ARCHITECTURES, CONFIGURATIONS, FRESH, NOISY, WHOLE
from nclib.claims.bardazzi2026.study import claim as _claim

K = 10
Value = Callable[[pd.DataFrame], pd.Series]
"""From the rows of experiment 1 to one value a seed."""


def _largest(metric: str) -> Value:
    """The metric on noisy training labels, largest of the four configurations."""
    return lambda rows: over_configurations(
        {c: f[64] for c, f in curves(rows, metric, **NOISY).items()}, "max"
    )


def _largest_under_sgd(metric: str) -> Value:
    """The metric on noisy training labels under SGD, larger of the two networks."""

    def value(rows: pd.DataFrame) -> pd.Series:
        frames = curves(rows, metric, **NOISY)
        return over_configurations({c: frames[c][64] for c in CONFIGURATIONS if c[1] == "sgd"}, "max")

    return value


def _difference(metric: str, optimizer: str, other: str, worst: str, **where: object) -> Value:
    """The metric under one optimiser minus that under the other, smaller or larger of the two networks."""

    def value(rows: pd.DataFrame) -> pd.Series:
        frames = curves(rows, metric, **where)
        differences = {a: frames[a, optimizer][64] - frames[a, other][64] for a in ARCHITECTURES}
        return over_configurations(differences, worst)

    return value


def _against_the_others(metric: str, configuration: tuple[str, str], which: str, **where: object) -> Value:
    """The metric of one configuration minus the smallest or largest of the other three."""

    def value(rows: pd.DataFrame) -> pd.Series:
        frames = curves(rows, metric, **where)
        others = {c: frames[c][64] for c in CONFIGURATIONS if c != configuration}
        return frames[configuration][64] - over_configurations(others, which)

    return value


def _resnet_adam_minus_cnn_sgd_nc3(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "nc3_rows_uncentred", **NOISY)
    return frames["resnet1d", "adam"][64] - frames["cnn1d", "sgd"][64]


def _duality(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "nc3_cosine", **NOISY)
    return over_configurations({c: (2 * K * f[64]) ** 0.5 for c, f in frames.items()}, "min")


CLAIMS = (
    _claim(
        "nc4-zero", "NC4 is exactly zero for the widest networks.", "README",
        "largest mismatch of classifier and nearest class mean at width 64 over four configurations",
        "below 0.001", judge_model_wise(_largest("nc4_mismatch"), below=1e-3), "0",
        numbers=("R5",),
    ),
    _claim(
        "nc3-without-duality", "Classification works (NC4) without metric duality (NC3).", "README",
        "NC3 with centred means on the same scale, √(2K NC3), at width 64, smallest of four configurations",
        "above 1", judge_model_wise(_duality, above=1.0), "2.3 to 3.6, means not centred", registered="after",
        numbers=("R5",),
    ),
    _claim(
        "sgd-nc2", "SGD reaches a clearly better NC2 than Adam.", "slides, results 2",
        "NC2 of SGD minus NC2 of Adam at width 64, larger of two networks", "below 0",
        judge_model_wise(_difference("nc2_gram_frobenius", "sgd", "adam", "max", **NOISY), below=0.0),
        "+0.01 (ResNet), −0.19 (CNN)",
        numbers=("8", "24"),
    ),
    _claim(
        "sgd-nc3", "SGD reaches a clearly better NC3 than Adam.", "slides, results 2",
        "NC3 (unit rows, uncentred) of SGD minus that of Adam at width 64, larger of two networks", "below 0",
        judge_model_wise(_difference("nc3_rows_uncentred", "sgd", "adam", "max", **NOISY), below=0.0),
        "−0.31 (ResNet), −0.52 (CNN)",
        numbers=("8",),
    ),
    _claim(
        "sgd-nc2-zero", "Under SGD, NC2 comes close to zero.", "slides, results 2",
        "NC2 (unnormalised Gram distance) at width 64 under SGD, larger of two networks", "below 0.1",
        judge_model_wise(_largest_under_sgd("nc2_gram_frobenius"), below=0.1), "0.35 and 0.49",
        numbers=("8",),
    ),
    _claim(
        "resnet-adam-best", "ResNet with Adam generalises best.", "README",
        "its test error at width 64 minus the best of the other three", "below 0",
        judge_model_wise(_against_the_others("error", ("resnet1d", "adam"), "min", **FRESH), below=0.0), "+0.025",
        numbers=("R1",),
    ),
    _claim(
        "sgd-nc3-zero", "Under SGD, NC3 comes close to zero.", "slides, results 2",
        "NC3 (unit rows, uncentred) at width 64 under SGD, larger of two networks", "below 0.5",
        judge_model_wise(_largest_under_sgd("nc3_rows_uncentred"), below=0.5), "3.24 and 2.32", registered="after",
        numbers=("8",),
    ),
    _claim(
        "adam-worse-minima", "Adam stops in geometrically worse minima.", "slides, results 2",
        "NC1 of Adam minus NC1 of SGD at width 64, smaller of two networks", "above 0",
        judge_model_wise(_difference("nc1_trace_ratio_weighted", "adam", "sgd", "min", **NOISY), above=0.0),
        "+0.17 (ResNet), +0.21 (CNN)", registered="after",
        numbers=("9",),
    ),
    _claim(
        "sgd-norm-bias", "SGD ends with smaller norms (the slides: an implicit bias, and the reason).",
        "slides, results 2",
        "norm of all parameters under SGD minus that under Adam at width 64, larger of two networks",
        "below 0", judge_model_wise(_difference("parameter_norm", "sgd", "adam", "max", **WHOLE), below=0.0),
        "not measured", registered="after",
        numbers=("10",),
    ),
    _claim(
        "cnn-sgd-worst", "CNN with SGD generalises worst.", "README",
        "its test error at width 64 minus the worst of the other three", "above 0",
        judge_model_wise(_against_the_others("error", ("cnn1d", "sgd"), "max", **FRESH), above=0.0),
        "−0.044", registered="after",
        numbers=("R1",),
    ),
    _claim(
        "resnet-adam-cleanest", "ResNet with Adam shows the cleanest collapse.", "README",
        "its NC1 at width 64 minus the smallest of the other three", "below 0",
        judge_model_wise(
            _against_the_others("nc1_trace_ratio_weighted", ("resnet1d", "adam"), "min", **NOISY), below=0.0
        ),
        "+0.23", registered="after",
        numbers=("R2",),
    ),
    _claim(
        "resnet-adam-nc3-lower", "NC3 of ResNet with Adam lies below that of CNN with SGD.", "README",
        "the difference of the two (unit rows, uncentred) at width 64", "below 0",
        judge_model_wise(_resnet_adam_minus_cnn_sgd_nc3, below=0.0), "+1.2", registered="after",
        numbers=("R4",),
    ),
)  # fmt: skip
