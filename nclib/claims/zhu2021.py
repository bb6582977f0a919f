"""Zhu et al. (2021): the unconstrained-feature landscape with cross-entropy and weight decay."""

from typing import Literal

import pandas as pd

from nclib.claims.terminal_phase import NOISY, at_end, varied
from nclib.claims.terminal_phase import claim as _on_images
from nclib.claims.theorems import theorem
from nclib.claims.verdict import (
    Claim,
    Missing,
    Unrecorded,
    Verdict,
    every_run,
    evidence,
    final_epoch,
    judged,
    per_run,
)

ALL_OF = {"split": "train", "labels": "clean", "layer": "all"}
FEATURES = {"split": "train", "labels": "clean", "layer": "features"}
ORIGIN = {"split": "train", "labels": "clean", "layer": "origin"}
RESTARTS = {"split": "train", "labels": "clean", "layer": "restarts"}
OPTIMIZERS = ("sgd", "adam", "lbfgs")
METHODS = ("gd", "sgd", "adam", "lbfgs")
STARTS = 200
"""Random starts that every method must have had."""


def _side(table: pd.DataFrame, beyond: bool = False) -> pd.DataFrame:
    """Runs beyond the collapse threshold K sqrt(n lambda_W lambda_H) = 1, or those below it with room: d > K."""
    rows = evidence(table)
    size = rows.num_classes * (rows.per_class * rows.lambda_W * rows.lambda_H) ** 0.5
    return rows[size >= 1 if beyond else (size < 1) & (rows.feature_dim > rows.num_classes)]


def _runs(table: pd.DataFrame, beyond: bool = False) -> pd.DataFrame:
    """Runs on the asked side of the collapse threshold, below it of every optimiser."""
    rows = _side(table, beyond)
    if rows.empty:
        raise Unrecorded(f"no runs {'beyond' if beyond else 'below'} the collapse threshold")
    if not beyond:
        absent = [name for name in OPTIMIZERS if rows[rows.optimizer == name].run.nunique() < 3]
        if absent:
            raise Unrecorded(f"fewer than 3 runs of {', '.join(absent)}")
    return rows


def _worst(
    metric: str, where: dict[str, str], below: float, above: float | None = None, beyond: bool = False
):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = _runs(table, beyond)
        values = per_run(rows, metric, final_epoch(rows), **where)
        return every_run(values if above is not None else values.abs(), below=below, above=above)

    return judge


@judged
def _certified(table: pd.DataFrame) -> Verdict:
    rows = _runs(table)
    values = per_run(rows, "certificate", final_epoch(rows), **ALL_OF)
    return every_run((values - 1).abs(), below=1e-3)


@judged
def _curvature(table: pd.DataFrame) -> Verdict:
    rows = _runs(table)
    at_start = pd.Series(0, index=rows.run.unique())
    if (per_run(rows, "curvature_error", at_start, **ORIGIN) > 1e-8).any():
        return Verdict("not supported", reason="the measured curvature is not the predicted one")
    return every_run(per_run(rows, "curvature", at_start, **ORIGIN), below=0.0)


def _with_room(table: pd.DataFrame) -> pd.DataFrame:
    """Runs from many starts to which both theorems apply: below the threshold, and d > K."""
    rows = evidence(_side(table))
    if rows.seed.nunique() < 3:
        raise Unrecorded(f"{rows.seed.nunique()} of at least 3 seeds recorded")
    return rows


@judged
def _every_start(table: pd.DataFrame) -> Verdict:
    rows = evidence(_with_room(table), method=METHODS)
    starts = rows.groupby("run")[["method", "restarts"]].first().groupby("method").restarts.sum()
    absent = [name for name in METHODS if starts.get(name, 0) < STARTS]
    if absent:
        raise Unrecorded(f"fewer than {STARTS} starts of {', '.join(absent)}")
    return every_run(per_run(rows, "objective_gap_max", final_epoch(rows), **RESTARTS), below=1e-6)


@judged
def _no_other_minimum(table: pd.DataFrame) -> Verdict:
    rows = _with_room(table)
    looked = evidence(rows, method="gradient_norm")
    if not (per_run(looked, "saddles", final_epoch(looked), **RESTARTS) > 0).all():
        raise Missing("a search for critical points found minima only: it would not have found others")
    return every_run(per_run(rows, "other_minima", final_epoch(rows), **RESTARTS), below=0.5)


def _claim(
    name: str, statement: str, place: str, measure: str, predicate: str, judge,
    study: str = "unconstrained", page: str = "20_unconstrained_features",
    registered: Literal["before", "after"] = "before",
) -> Claim:  # fmt: skip
    return Claim(
        id=f"zhu2021-{name}", statement=statement, place=place, measure=measure, predicate=predicate,
        judge=judge, source="zhu2021", study=study, page=page, registered=registered,
    )  # fmt: skip


CLAIMS = (
    _claim(
        "value", "SGD, Adam and L-BFGS reach the closed-form global minimum from random starts.",
        "theorems 3.1 and 3.2", "largest |f − f*|/f* over all runs", "below 1e-6",
        _worst("objective_gap", ALL_OF, 1e-6),
    ),
    _claim(
        "certificate", "Where they end the certificate of a global minimum holds: ‖∇g‖₂ = √(λ_W λ_H).", "lemma C.4",
        "largest |‖∇g‖₂/√(λ_W λ_H) − 1| over all runs", "below 1e-3", _certified,
    ),
    _claim(
        "nc1", "Global minimisers have no within-class variability (NC1).", "theorem 3.1",
        "largest Tr(Σ_W Σ_B⁺)/K over all runs", "below 1e-6", _worst("nc1_pinv", FEATURES, 1e-6),
    ),
    _claim(
        "nc2", "Their classifiers form a simplex ETF (NC2).", "theorem 3.1",
        "largest distance of W Wᵀ from the simplex over all runs", "below 1e-3",
        _worst("nc2_etf_weights", FEATURES, 1e-3),
    ),
    _claim(
        "nc3", "Features are aligned with classifiers, h = √(λ_W/(nλ_H)) w (NC3).", "theorem 3.1",
        "largest relative distance over all runs", "below 1e-3", _worst("self_duality", ALL_OF, 1e-3),
    ),
    _claim(
        "bias", "The bias collapses to equal entries.", "theorem 3.1",
        "largest ‖b − mean b‖ over all runs", "below 1e-3", _worst("bias_spread", ALL_OF, 1e-3),
    ),
    _claim(
        "strict-saddle", "The origin is a strict saddle with curvature −2(‖∇g‖₂ − √(λ_W λ_H)).",
        "theorem 3.2",
        "largest measured curvature, equal to the predicted one to 1e-8; the origin is the same in all runs", "below 0",
        _curvature,
    ),
    _claim(
        "threshold", "With K√(nλ_Wλ_H) ≥ 1 the only minimiser is zero.", "derived from theorem 3.1",
        "largest ‖W‖² at the end over all runs beyond the threshold", "below 1e-6",
        _worst("weight_norm_squared", ALL_OF, 1e-6, beyond=True),
    ),
    _on_images(
        "random-labels", "A network that can memorise completely random labels collapses on them, too (NC1).",
        "fig. 4", "Tr(Σ_W Σ_B⁺)/K on the random labels at the last epoch", "below 0.2",
        at_end("nc1_pinv", 0.2, varied(label_noise=1.0), NOISY), source="zhu2021", page="12_what_it_needs",
    ),
    _claim(
        "random-starts", "From every random start GD, SGD, Adam and L-BFGS reach the closed-form minimum.",
        "theorems 3.1 and 3.2", f"largest |f − f*|/f* over all starts, at least {STARTS} a method", "below 1e-6",
        _every_start, study="landscape", page="22_landscape",
    ),
    _claim(
        "no-other-minimum", "No critical point is a local minimum that is not global.", "theorem 3.2",
        "largest number a run of starts that end in another local minimum, with a search that finds saddles",
        "below 0.5", _no_other_minimum, study="landscape", page="22_landscape", registered="after",
    ),
    theorem(
        "zhu2021", "theorem-minimum",
        "The closed form is the minimum: it is attained at a critical point of these norms, and no point is below.",
        "theorem 3.1", "value", "stationarity", "norms", "no point below",
    ),
    theorem(
        "zhu2021", "theorem-lower-bound",
        "At balanced norms the cross-entropy is at least the bound, which the simplex attains.",
        "proof of theorem 3.1", "lower bound", "lower bound attained",
    ),
    theorem(
        "zhu2021", "theorem-certificate",
        "The objective is never below its convex partner, and minimisers pass the certificate.", "lemma C.4",
        "certificate", "partner below f", "partner above minimum",
    ),
    theorem(
        "zhu2021", "theorem-strict-saddle",
        "At the origin ‖∇g‖₂ = 1/(K√n), and the escape direction has the curvature that follows from it.",
        "theorem 3.2", "threshold", "curvature",
    ),
    theorem(
        "zhu2021", "theorem-saddles",
        "Saddles at which groups of classes share a vertex have ‖∇g‖₂ = 1/(K√n), and the origin's curvature.",
        "derived; the saddles are ours", "stationarity at saddles", "threshold at saddles", "curvature at saddles",
        paper="zhu2021_saddles", registered="after",
    ),
    theorem(
        "zhu2021", "theorem-balance",
        "At critical points λ_W WᵀW = λ_H HᵀH, and the rows of W sum to zero.", "derived from the gradient",
        "balance", "centred classifier",
    ),
    theorem(
        "zhu2021", "theorem-descent",
        "On random problems with d ≥ K − 1 L-BFGS ends at a balanced, certified point of the closed form's value.",
        "theorem 3.1, and 3.2 taken to d ≥ K − 1",
        "descent reaches the value", "no point below", "balance", "certificate",
        paper="zhu2021_descent",
        note="; descent stops at gradient entries of 1e-10, too early for the digits asked of balance and certificate",
    ),
    theorem(
        "zhu2021", "theorem-descent-value",
        "On random problems with d ≥ K − 1 L-BFGS ends at the closed form's value, and never below it.",
        "theorem 3.1, and 3.2 taken to d ≥ K − 1",
        "descent reaches the value", "no point below", paper="zhu2021_descent",
        registered="after",
    ),
)  # fmt: skip
