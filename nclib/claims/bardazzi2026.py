"""Bardazzi (2026): double descent, neural collapse and CKA on MNIST-1D with 20 % label noise."""

from collections.abc import Callable
from itertools import pairwise

import pandas as pd

from nclib.claims.verdict import (
    MIN_SEEDS,
    Claim,
    Missing,
    Verdict,
    by_seed,
    evidence,
    final_epoch,
    judged,
    mean_over_seeds,
    per_run,
)
from nclib.tables import select

EPOCHS = 300
"""Length of the judged runs of experiments 3 and 4; the study itself trains for 3000 (CKA: 2000)."""
LENGTHS = (500, 300)
"""Lengths of experiment 1: judged is the first of these that is recorded in full."""
WIDTHS = (2, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64)
CONFIGURATIONS = tuple((a, o) for a in ("resnet1d", "cnn1d") for o in ("adam", "sgd"))
DIMENSIONS = (2, 3, 5, 8, 9, 10, 12, 16)
DIMENSION_WIDTH = 32
"""Width of the network before the projector in the judged runs of experiment 3; the study has 64."""
NOISY = {"split": "train", "labels": "noisy", "layer": "features"}
FRESH = {"split": "fresh", "labels": "clean", "layer": "features"}


def parameters(architecture: str, width: int) -> int:
    """Parameter count of the study's networks: 12 w^2 + 23 w (ResNet1D), 21 w^2 + 35 w (CNN1D)."""
    a, b = {"resnet1d": (12, 23), "cnn1d": (21, 35)}[architecture]
    return a * width**2 + b * width


def model_wise(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of experiment 1 under each optimiser's own settings, of the longest runs there are in full.

    Missing unless, at one of `LENGTHS`, every combination has the same seeds, and at least three.
    """
    reason = Missing("nothing recorded yet")
    for epochs in LENGTHS:
        try:
            return _in_full(table, epochs)
        except Missing as missing:
            reason = missing
    raise reason


def _in_full(table: pd.DataFrame, epochs: int) -> pd.DataFrame:
    rows = evidence(
        table,
        epochs=epochs,
        label_noise=0.2,
        feature_dim=0,
        noise_model="symmetric_including_true",
        precision="float32",
    )
    own = (
        (rows.optimizer == "sgd")
        & (rows.lr == 0.01)
        & (rows.schedule == "cosine")
        & (rows.weight_decay == 5e-4)
    ) | (
        (rows.optimizer == "adam")
        & (rows.lr == 1e-3)
        & (rows.schedule == "constant")
        & (rows.weight_decay == 1e-4)
    )
    # seeds vary weights, order and noise together here; runs that vary them apart are another question
    rows = rows[own & rows.width.isin(WIDTHS) & (rows.noise_seed == rows.seed)]
    cells = rows.drop_duplicates("run").groupby(["architecture", "optimizer", "width"]).seed.apply(frozenset)
    wanted = len(CONFIGURATIONS) * len(WIDTHS)
    if len(cells) < wanted:
        raise Missing(f"{len(cells)} of {wanted} combinations of network, optimiser and width recorded")
    if cells.nunique() > 1:
        raise Missing("not every combination is recorded with the same seeds")
    if len(cells.iloc[0]) < MIN_SEEDS:
        raise Missing(f"{len(cells.iloc[0])} of at least {MIN_SEEDS} seeds recorded")
    return rows


def curves(rows: pd.DataFrame, metric: str, **where: object) -> dict[tuple[str, str], pd.DataFrame]:
    """For each configuration a frame of the metric at the last epoch, seeds by widths."""
    values = per_run(rows, metric, final_epoch(rows), **where)
    about = rows.drop_duplicates("run").set_index("run")[["architecture", "optimizer", "width", "seed"]]
    if about.duplicated().any():
        raise Missing("a seed stands for several runs of one combination: the table must hold one of them")
    joined = about.join(values.rename("value"))
    return {
        (a, o): select(joined, architecture=a, optimizer=o).pivot(
            index="seed", columns="width", values="value"
        )
        for a, o in CONFIGURATIONS
    }


def cross_fitted(errors: pd.DataFrame) -> pd.DataFrame:
    """For each seed the widths of peak and first minimum that the *other* seeds' mean error shows.

    The peak is looked for from width 6 on, where the networks no longer underfit; the minimum at smaller
    widths. Choosing on one half and reading off the other keeps the maximum's selection out of its height.
    """
    chosen = {}
    for seed in errors.index:
        others = errors.drop(index=seed).mean()
        peak = int(others[[w for w in errors if w > WIDTHS[1]]].idxmax())
        chosen[seed] = {"peak": peak, "minimum": int(others[[w for w in errors if w < peak]].idxmin())}
    return pd.DataFrame(chosen).T


def _over_configurations(per_configuration: dict[tuple[str, str], pd.Series], worst: str) -> pd.Series:
    """One value per seed: the smallest or largest over the four configurations."""
    frame = pd.DataFrame(per_configuration)
    # An undefined value must stay one: it makes the verdict inconclusive.
    return frame.min(axis=1, skipna=False) if worst == "min" else frame.max(axis=1, skipna=False)


def _read(frame: pd.DataFrame, widths: pd.Series) -> pd.Series:
    return pd.Series({seed: frame.loc[seed, width] for seed, width in widths.items()})


def _model_wise(value: Callable[[pd.DataFrame], pd.Series], **threshold):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        return mean_over_seeds(value(model_wise(table)), **threshold)

    return judge


def _peak_height(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "error", **FRESH)
    heights = {}
    for name, errors in frames.items():
        at = cross_fitted(errors)
        beside = pd.concat([_read(errors, at.minimum), errors[WIDTHS[-1]]], axis=1).max(axis=1)
        heights[name] = _read(errors, at.peak) - beside
    return _over_configurations(heights, "min")


def _peaks_in_range(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "error", **FRESH)
    inside = {}
    for (architecture, optimizer), errors in frames.items():
        peaks = errors[[w for w in WIDTHS if w > WIDTHS[1]]].idxmax(axis=1)
        inside[architecture, optimizer] = peaks.map(
            lambda w, a=architecture: float(1e3 <= parameters(a, w) <= 1e4)
        )
    return pd.DataFrame(inside).mean(axis=1)


def _memorised_at_peak(rows: pd.DataFrame) -> pd.Series:
    errors = curves(rows, "error", **FRESH)
    wrong = curves(rows, "error", split="train_mislabelled", labels="noisy", layer="features")
    return _over_configurations({c: 1 - _read(wrong[c], cross_fitted(errors[c]).peak) for c in errors}, "min")


def _rank_correlation(rows: pd.DataFrame) -> pd.Series:
    errors, nc1 = curves(rows, "error", **FRESH), curves(rows, "nc1_trace_ratio_weighted", **NOISY)
    return pd.DataFrame({c: errors[c].rank(axis=1).T.corrwith(nc1[c].rank(axis=1).T) for c in errors}).mean(
        axis=1, skipna=False
    )


def _nc1_at_peak(rows: pd.DataFrame) -> pd.Series:
    errors, nc1 = curves(rows, "error", **FRESH), curves(rows, "nc1_trace_ratio_weighted", **NOISY)
    ratios = {}
    for c in errors:
        at = cross_fitted(errors[c])
        ratios[c] = _read(nc1[c], at.peak) / _read(nc1[c], at.minimum)
    return _over_configurations(ratios, "min")


def _nc1_restored(rows: pd.DataFrame) -> pd.Series:
    return _over_configurations(
        {c: f[64] for c, f in curves(rows, "nc1_trace_ratio_weighted", **NOISY).items()}, "max"
    )


def _nc1_two_orders(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "nc1_trace_ratio_weighted", **NOISY)
    return _over_configurations({c: f.max(axis=1) / f[64] for c, f in frames.items()}, "min")


def _nc4_at_64(rows: pd.DataFrame) -> pd.Series:
    return _over_configurations({c: f[64] for c, f in curves(rows, "nc4_mismatch", **NOISY).items()}, "max")


def _sgd_minus_adam(metric: str, **where: object) -> Callable[[pd.DataFrame], pd.Series]:
    def value(rows: pd.DataFrame) -> pd.Series:
        frames = curves(rows, metric, **where)
        differences = [frames[a, "sgd"][64] - frames[a, "adam"][64] for a in ("resnet1d", "cnn1d")]
        return pd.concat(differences, axis=1).max(axis=1, skipna=False)

    return value


def _sgd_nc2(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "nc2_gram_frobenius", **NOISY)
    return pd.concat([frames[a, "sgd"][64] for a in ("resnet1d", "cnn1d")], axis=1).max(axis=1, skipna=False)


def _adam_is_best(rows: pd.DataFrame) -> pd.Series:
    frames = curves(rows, "error", **FRESH)
    others = pd.concat([frames[c][64] for c in CONFIGURATIONS if c != ("resnet1d", "adam")], axis=1)
    return frames["resnet1d", "adam"][64] - others.min(axis=1)


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


def _claim(
    name: str, statement: str, place: str, measure: str, predicate: str, judge, published: str = "", **more
) -> Claim:
    common = {"source": "bardazzi2026", "study": "mnist1d", "page": "03_double_descent"}
    return Claim(
        id=f"bardazzi2026-{name}", statement=statement, place=place, measure=measure, predicate=predicate,
        judge=judge, published=published, **common | more,
    )  # fmt: skip


_DIMENSION = {"page": "04_feature_dimension"}
_CKA = {"study": "representations", "page": "05_representations"}

CLAIMS = (
    _claim(
        "peak", "Test error has a peak in width between two lower stretches (double descent).",
        "slides, results 1",
        "smallest height of the peak over four configurations, widths chosen on the other seeds",
        "above 0.02", _model_wise(_peak_height, above=0.02), "0.12 to 0.17, one seed",
    ),
    _claim(
        "peak-range", "The peak lies between 10³ and 10⁴ parameters.", "slides, results 1",
        "share of the four configurations whose peak lies there", "above 0.99",
        _model_wise(_peaks_in_range, above=0.99), "4 of 4 (3,440 to 5,936 parameters)",
    ),
    _claim(
        "memorisation", "At the peak all capacity goes into memorising the noise.", "slides, results 1",
        "smallest share of wrong labels fitted at the peak over four configurations", "above 0.9",
        _model_wise(_memorised_at_peak, above=0.9), "not measured",
    ),
    _claim(
        "nc1-correlation", "Generalisation error correlates perfectly with NC1.", "slides, results 1",
        "Spearman correlation over 11 widths, mean of four configurations", "above 0.9",
        _model_wise(_rank_correlation, above=0.9), "Pearson 0.06 to 0.68",
    ),
    _claim(
        "nc1-explodes", "Within-class variance explodes in the critical regime.", "slides, results 1",
        "NC1 at the error's peak over NC1 at its first minimum, smallest of four configurations", "above 2",
        _model_wise(_nc1_at_peak, above=2.0, ratio=True), "1.2 to 2.1",
    ),
    _claim(
        "nc1-restored", "Neural collapse is restored above 10⁴ parameters.", "slides, results 1",
        "largest NC1 (trace ratio, noisy labels) at width 64 over four configurations", "below 0.1",
        _model_wise(_nc1_restored, below=0.1), "0.10 to 0.33",
    ),
    _claim(
        "nc1-two-orders", "NC1 falls by more than two orders of magnitude.", "README",
        "largest NC1 over widths, over NC1 at width 64, smallest of four configurations", "above 100",
        _model_wise(_nc1_two_orders, above=100.0, ratio=True), "6 to 28",
    ),
    _claim(
        "nc4-zero", "NC4 is exactly zero for the widest networks.", "README",
        "largest mismatch of classifier and nearest class mean at width 64 over four configurations",
        "below 0.001", _model_wise(_nc4_at_64, below=1e-3), "0",
    ),
    _claim(
        "sgd-nc2", "SGD reaches a clearly better NC2 than Adam.", "slides, results 2",
        "NC2 of SGD minus NC2 of Adam at width 64, larger of two networks", "below 0",
        _model_wise(_sgd_minus_adam("nc2_gram_frobenius", **NOISY), below=0.0), "+0.01 (ResNet), −0.19 (CNN)",
    ),
    _claim(
        "sgd-nc3", "SGD reaches a clearly better NC3 than Adam.", "slides, results 2",
        "NC3 (unit rows, uncentred) of SGD minus that of Adam at width 64, larger of two networks", "below 0",
        _model_wise(_sgd_minus_adam("nc3_rows_uncentred", **NOISY), below=0.0), "−0.31 (ResNet), −0.52 (CNN)",
    ),
    _claim(
        "sgd-nc2-zero", "Under SGD, NC2 comes close to zero.", "slides, results 2",
        "NC2 (unnormalised Gram distance) at width 64 under SGD, larger of two networks", "below 0.1",
        _model_wise(_sgd_nc2, below=0.1), "0.35 and 0.49",
    ),
    _claim(
        "resnet-adam-best", "ResNet with Adam generalises best.", "README",
        "its test error at width 64 minus the best of the other three", "below 0",
        _model_wise(_adam_is_best, below=0.0), "+0.025",
    ),
    _claim(
        "nc2-zero-at-9", "NC2 falls to about zero at feature dimension d = 9.", "slides, dimensional limits",
        "NC2 (unnormalised Gram distance) at d = 9", "below 0.1", _nc2_at_nine, "1.92 and 1.75", **_DIMENSION,
    ),
    _claim(
        "nc2-drop-at-9", "NC2 falls vertically exactly at d = 9.", "slides, dimensional limits",
        "drop of NC2 from d = 8 to 9 minus the largest other drop per dimension", "above 0",
        _largest_drop_at_nine, "−1.2 and −1.0", **_DIMENSION,
    ),
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
