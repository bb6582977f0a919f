"""Papyan, Han & Donoho (2020): what happens after the training error has vanished."""

import pandas as pd

from nclib.claims.verdict import (
    Claim,
    Verdict,
    by_seed,
    evidence,
    final_epoch,
    judged,
    mean_over_seeds,
    per_run,
    terminal_epoch,
)

RUNS = {
    "dataset": "fashion_mnist", "train_size": 10_000, "architecture": "resnet18", "width": 16,
    "optimizer": "sgd", "lr": 0.0679, "weight_decay": 5e-4, "schedule": "step",
    "epochs": 75, "precision": "bfloat16",
}  # fmt: skip
"""The runs that the claims are judged on: ResNet-18 of width 16 on 10,000 FashionMNIST images."""
TRAIN = {"split": "train", "labels": "clean", "layer": "features"}
TEST = {"split": "test", "labels": "clean", "layer": "features"}


def _falls(metric: str, below: float):
    """The metric at the last epoch over its value at the first epoch of zero training error."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = evidence(table, **RUNS)
        start = per_run(rows, metric, terminal_epoch(rows), **TRAIN)
        end = per_run(rows, metric, final_epoch(rows), **TRAIN)
        return mean_over_seeds(by_seed(end / start, rows), below=below, ratio=True)

    return judge


def _at_end(metric: str, below: float, where: dict[str, str] = TRAIN):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = evidence(table, **RUNS)
        terminal_epoch(rows)  # a run that never enters the terminal phase says nothing about it
        return mean_over_seeds(by_seed(per_run(rows, metric, final_epoch(rows), **where), rows), below=below)

    return judge


@judged
def _test_error_change(table: pd.DataFrame) -> Verdict:
    rows = evidence(table, **RUNS)
    start = per_run(rows, "error", terminal_epoch(rows), **TEST)
    end = per_run(rows, "error", final_epoch(rows), **TEST)
    return mean_over_seeds(by_seed(end - start, rows), below=0.0)


@judged
def _test_against_train(table: pd.DataFrame) -> Verdict:
    rows = evidence(table, **RUNS)
    end = final_epoch(rows)
    ratio = per_run(rows, "cdnv", end, **TEST) / per_run(rows, "cdnv", end, **TRAIN)
    return mean_over_seeds(by_seed(ratio, rows), above=10.0, ratio=True)


def _claim(name: str, statement: str, place: str, measure: str, predicate: str, judge, **more) -> Claim:
    common = {"source": "papyan2020", "study": "terminal_phase", "page": "10_terminal_phase"}
    return Claim(
        id=name,
        statement=statement,
        place=place,
        measure=measure,
        predicate=predicate,
        judge=judge,
        **common | more,
    )


_THROUGH = "last epoch over first epoch of zero training error"

CLAIMS = (
    _claim(
        "papyan2020-nc1", "Within-class variability collapses during the terminal phase (NC1).",
        "abstract; fig. 6", f"Tr(Σ_W Σ_B⁺)/K, {_THROUGH}", "below 0.5", _falls("nc1_pinv", 0.5),
    ),
    _claim(
        "papyan2020-nc1-trace",
        "The collapse includes scatter that the class means do not span (trace-ratio NC1).", "abstract",
        f"Tr Σ_W / Tr Σ_B, {_THROUGH}", "below 0.5", _falls("nc1_trace_ratio", 0.5),
    ),
    _claim(
        "papyan2020-nc2-equinorm-means", "Centred class means become equinorm (NC2).", "fig. 2",
        f"CV of ‖μ_c − μ_G‖, {_THROUGH}", "below 0.9", _falls("nc2_norm_cv_means", 0.9),
    ),
    _claim(
        "papyan2020-nc2-equinorm-classifiers", "Classifier rows become equinorm (NC2).", "fig. 2",
        f"CV of ‖w_c‖, {_THROUGH}", "below 0.9", _falls("nc2_norm_cv_weights", 0.9),
    ),
    _claim(
        "papyan2020-nc2-equiangular", "Centred class means become equiangular (NC2).", "fig. 3",
        f"std of cos(μ_c, μ_c′), {_THROUGH}", "below 0.9", _falls("nc2_cos_std_means", 0.9),
    ),
    _claim(
        "papyan2020-nc2-max-angle", "Class means approach the maximal angle, cosine −1/(K−1) (NC2).",
        "fig. 4", f"mean |cos + 1/(K−1)| of means, {_THROUGH}", "below 0.9", _falls("nc2_cos_dev_means", 0.9),
    ),
    _claim(
        "papyan2020-nc2-max-angle-classifiers", "Classifiers approach the maximal angle (NC2).", "fig. 4",
        f"mean |cos + 1/(K−1)| of classifiers, {_THROUGH}", "below 0.9", _falls("nc2_cos_dev_weights", 0.9),
    ),
    _claim(
        "papyan2020-nc2-reached", "The class means reach the simplex ETF (NC2).", "abstract",
        "distance of the means' Gram from the simplex at the last epoch", "below 0.1",
        _at_end("nc2_etf_means", 0.1),
    ),
    _claim(
        "papyan2020-nc3", "Classifiers and class means converge to each other up to scale (NC3).", "fig. 5",
        f"‖W/‖W‖ − M/‖M‖‖_F, {_THROUGH}", "below 0.9", _falls("nc3_frobenius", 0.9),
    ),
    _claim(
        "papyan2020-nc4", "The classifier comes to choose the nearest class mean (NC4).", "fig. 7",
        "share of training samples decided otherwise at the last epoch", "below 0.001",
        _at_end("nc4_mismatch", 1e-3),
    ),
    _claim(
        "papyan2020-generalisation", "Training on through the terminal phase improves test accuracy.",
        "abstract; table 1", "test error at the last epoch minus at the first of zero training error",
        "below 0", _test_error_change,
    ),
    _claim(
        "galanti2022-test-variability",
        "Class-distance normalised variance is about ten times larger on test data.",
        "as summarised in Kothapalli (2023)", "test CDNV over train CDNV at the last epoch", "above 10",
        _test_against_train, source="galanti2022",
    ),
)  # fmt: skip
