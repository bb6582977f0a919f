"""Zhu et al. (2021): the unconstrained-feature landscape with cross-entropy and weight decay."""

import pandas as pd

from nclib.claims.terminal_phase import NOISY, at_end, varied
from nclib.claims.terminal_phase import claim as _on_images
from nclib.claims.verdict import Claim, Missing, Verdict, every_run, evidence, final_epoch, judged, per_run

ALL_OF = {"split": "train", "labels": "clean", "layer": "all"}
FEATURES = {"split": "train", "labels": "clean", "layer": "features"}
ORIGIN = {"split": "train", "labels": "clean", "layer": "origin"}
OPTIMIZERS = ("sgd", "adam", "lbfgs")


def _runs(table: pd.DataFrame, beyond: bool = False) -> pd.DataFrame:
    """Runs on the asked side of the collapse threshold K sqrt(n lambda_W lambda_H) = 1."""
    rows = evidence(table)
    size = rows.num_classes * (rows.per_class * rows.lambda_W * rows.lambda_H) ** 0.5
    rows = rows[(size >= 1) == beyond]
    if rows.empty:
        raise Missing(f"no runs {'beyond' if beyond else 'below'} the collapse threshold")
    if not beyond:
        absent = [name for name in OPTIMIZERS if rows[rows.optimizer == name].run.nunique() < 3]
        if absent:
            raise Missing(f"fewer than 3 runs of {', '.join(absent)}")
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


def _claim(name: str, statement: str, place: str, measure: str, predicate: str, judge) -> Claim:
    return Claim(
        id=f"zhu2021-{name}", statement=statement, place=place, measure=measure, predicate=predicate,
        judge=judge, source="zhu2021", study="unconstrained", page="20_unconstrained_features",
    )  # fmt: skip


CLAIMS = (
    _claim(
        "value", "SGD, Adam and L-BFGS reach the closed-form global minimum from random starts.",
        "theorems 3.1 and 3.2", "largest |f − f*|/f* over all runs", "below 1e-6",
        _worst("objective_gap", ALL_OF, 1e-6),
    ),
    _claim(
        "certificate", "Where they end is certified global: ‖∇g‖₂ = √(λ_W λ_H).", "lemma C.4",
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
        "theorem 3.2", "largest measured curvature, equal to the predicted one to 1e-8", "below 0",
        _curvature,
    ),
    _claim(
        "threshold", "With K√(nλ_Wλ_H) ≥ 1 the only minimiser is zero.", "derived from theorem 3.1",
        "largest ‖W‖² at the end over all runs beyond the threshold", "below 1e-6",
        _worst("weight_norm_squared", ALL_OF, 1e-6, beyond=True),
    ),
    _on_images(
        "random-labels", "A network that can memorise completely random labels collapses on them, too (NC1).",
        "abstract; fig. 4", "Tr(Σ_W Σ_B⁺)/K on the random labels at the last epoch", "below 0.2",
        at_end("nc1_pinv", 0.2, varied(label_noise=1.0), NOISY), source="zhu2021", page="12_what_it_needs",
    ),
)  # fmt: skip
