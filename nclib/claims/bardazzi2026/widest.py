"""Experiment 1 at its widest: which network and optimiser collapses, and generalises, best."""

from collections.abc import Callable

import pandas as pd

from nclib.claims.bardazzi2026.model_wise import curves, judge_model_wise, over_configurations
from nclib.claims.bardazzi2026.study import ARCHITECTURES, CONFIGURATIONS, FRESH, NOISY, WHOLE
from nclib.claims.bardazzi2026.study import claim as _claim


def _nc4_at_64(rows: pd.DataFrame) -> pd.Series:
    return over_configurations({c: f[64] for c, f in curves(rows, "nc4_mismatch", **NOISY).items()}, "max")


def _sgd_minus_adam(metric: str, **where: object) -> Callable[[pd.DataFrame], pd.Series]:
    def value(rows: pd.DataFrame) -> pd.Series:
        frames = curves(rows, metric, **where)
        differences = [frames[a, "sgd"][64] - frames[a, "adam"][64] for a in ARCHITECTURES]
        return pd.concat(differences, axis=1).max(axis=1, skipna=False)

    return value


def _sgd_nc2(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "nc2_gram_frobenius", **NOISY)
    return pd.concat([frames[a, "sgd"][64] for a in ARCHITECTURES], axis=1).max(axis=1, skipna=False)


def _adam_is_best(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "error", **FRESH)
    others = pd.concat([frames[c][64] for c in CONFIGURATIONS if c != ("resnet1d", "adam")], axis=1)
    return frames["resnet1d", "adam"][64] - others.min(axis=1)


def _adam_minus_sgd_nc1(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "nc1_trace_ratio_weighted", **NOISY)
    differences = [frames[a, "adam"][64] - frames[a, "sgd"][64] for a in ARCHITECTURES]
    return pd.concat(differences, axis=1).min(axis=1, skipna=False)


def _sgd_nc3(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "nc3_rows_uncentred", **NOISY)
    return pd.concat([frames[a, "sgd"][64] for a in ARCHITECTURES], axis=1).max(axis=1, skipna=False)


def _cnn_sgd_is_worst(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "error", **FRESH)
    others = pd.concat([frames[c][64] for c in CONFIGURATIONS if c != ("cnn1d", "sgd")], axis=1)
    return frames["cnn1d", "sgd"][64] - others.max(axis=1, skipna=False)


def _resnet_adam_is_cleanest(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "nc1_trace_ratio_weighted", **NOISY)
    others = pd.concat([frames[c][64] for c in CONFIGURATIONS if c != ("resnet1d", "adam")], axis=1)
    return frames["resnet1d", "adam"][64] - others.min(axis=1, skipna=False)


def _resnet_adam_minus_cnn_sgd_nc3(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "nc3_rows_uncentred", **NOISY)
    return frames["resnet1d", "adam"][64] - frames["cnn1d", "sgd"][64]


CLAIMS = (
    _claim(
        "nc4-zero", "NC4 is exactly zero for the widest networks.", "README",
        "largest mismatch of classifier and nearest class mean at width 64 over four configurations",
        "below 0.001", judge_model_wise(_nc4_at_64, below=1e-3), "0",
    ),
    _claim(
        "sgd-nc2", "SGD reaches a clearly better NC2 than Adam.", "slides, results 2",
        "NC2 of SGD minus NC2 of Adam at width 64, larger of two networks", "below 0",
        judge_model_wise(_sgd_minus_adam("nc2_gram_frobenius", **NOISY), below=0.0), "+0.01 (ResNet), −0.19 (CNN)",
    ),
    _claim(
        "sgd-nc3", "SGD reaches a clearly better NC3 than Adam.", "slides, results 2",
        "NC3 (unit rows, uncentred) of SGD minus that of Adam at width 64, larger of two networks", "below 0",
        judge_model_wise(_sgd_minus_adam("nc3_rows_uncentred", **NOISY), below=0.0), "−0.31 (ResNet), −0.52 (CNN)",
    ),
    _claim(
        "sgd-nc2-zero", "Under SGD, NC2 comes close to zero.", "slides, results 2",
        "NC2 (unnormalised Gram distance) at width 64 under SGD, larger of two networks", "below 0.1",
        judge_model_wise(_sgd_nc2, below=0.1), "0.35 and 0.49",
    ),
    _claim(
        "resnet-adam-best", "ResNet with Adam generalises best.", "README",
        "its test error at width 64 minus the best of the other three", "below 0",
        judge_model_wise(_adam_is_best, below=0.0), "+0.025",
    ),
    _claim(
        "sgd-nc3-zero", "Under SGD, NC3 comes close to zero.", "slides, results 2",
        "NC3 (unit rows, uncentred) at width 64 under SGD, larger of two networks", "below 0.5",
        judge_model_wise(_sgd_nc3, below=0.5), "3.24 and 2.32", registered="after",
    ),
    _claim(
        "adam-worse-minima", "Adam stops in geometrically worse minima.", "slides, results 2",
        "NC1 of Adam minus NC1 of SGD at width 64, smaller of two networks", "above 0",
        judge_model_wise(_adam_minus_sgd_nc1, above=0.0), "+0.17 (ResNet), +0.21 (CNN)", registered="after",
    ),
    _claim(
        "sgd-norm-bias", "SGD ends with smaller norms (the slides: an implicit bias, and the reason).",
        "slides, results 2",
        "norm of all parameters under SGD minus that under Adam at width 64, larger of two networks",
        "below 0", judge_model_wise(_sgd_minus_adam("parameter_norm", **WHOLE), below=0.0), "not measured",
        registered="after",
    ),
    _claim(
        "cnn-sgd-worst", "CNN with SGD generalises worst.", "README",
        "its test error at width 64 minus the worst of the other three", "above 0",
        judge_model_wise(_cnn_sgd_is_worst, above=0.0), "−0.044", registered="after",
    ),
    _claim(
        "resnet-adam-cleanest", "ResNet with Adam shows the cleanest collapse.", "README",
        "its NC1 at width 64 minus the smallest of the other three", "below 0",
        judge_model_wise(_resnet_adam_is_cleanest, below=0.0), "+0.23", registered="after",
    ),
    _claim(
        "resnet-adam-nc3-lower", "NC3 of ResNet with Adam lies below that of CNN with SGD.", "README",
        "the difference of the two (unit rows, uncentred) at width 64", "below 0",
        judge_model_wise(_resnet_adam_minus_cnn_sgd_nc3, below=0.0), "+1.2", registered="after",
    ),
)  # fmt: skip
