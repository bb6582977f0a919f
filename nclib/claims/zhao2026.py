"""Zhao, Cheng, Masarczyk & Lucchi (2026): whether weight decay is coupled to the gradient decides about collapse."""

import pandas as pd

from nclib.claims.bardazzi2026.controls import FACTORS, WIDTH
from nclib.claims.bardazzi2026.study import EPOCHS, NOISY, OWN, TRAINING, frame_at_end, in_full, judged_runs
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.terminal_phase import Runs, against, through, varied
from nclib.claims.terminal_phase import claim as _on_images
from nclib.claims.verdict import Verdict, first_epoch, judged, mean_over_seeds
from nclib.tables import METRICS


@judged
def _adamw_collapses_less(table: pd.DataFrame) -> Verdict:
    kinds = {"optimizer": ["adam", "adamw"]} | {
        name: list(FACTORS[name]) for name in ("schedule", "weight_decay")
    }
    rows = judged_runs(
        table, architecture="cnn1d", width=WIDTH, feature_dim=0, epochs=EPOCHS, lr=OWN["adam"]["lr"],
        **kinds, **TRAINING,
    )  # fmt: skip
    nc1 = frame_at_end(in_full(rows, list(kinds), 8), "nc1_trace_ratio_weighted", list(kinds), **NOISY)
    return mean_over_seeds(
        nc1["adamw"].mean(axis=1, skipna=False) - nc1["adam"].mean(axis=1, skipna=False), above=0.0
    )


_SGD, _ADAM, _ADAMW = varied(), varied(optimizer="adam", lr=1e-3), varied(optimizer="adamw", lr=1e-3)
# Learning rate times decay, summed over the run and over 1 - momentum, is that of _SGD.
_MATCHED = varied(optimizer="adamw", lr=1e-3, weight_decay=0.34)
_NONE, _MUCH = varied(weight_decay=0.0), varied(weight_decay=2e-3)
_UNTRAINED = varied(epochs=0)
WHOLE = {"split": "none", "labels": "none", "layer": "all"}


def _compared(
    name: str, statement: str, place: str, metric: str, runs: Runs, others: Runs, published: str, *,
    above: float | None = None, below: float | None = None, what: str = "AdamW over SGD", **more,
):  # fmt: skip
    threshold = {side: bound for side, bound in (("above", above), ("below", below)) if bound is not None}
    bound = (
        f"between {above:g} and {below:g}"
        if len(threshold) == 2
        else " ".join(f"{k} {v:g}" for k, v in threshold.items())
    )
    where = {"where": WHOLE} if metric == "nc0_row_sum" else {}
    return _on_images(
        name, statement, place, f"{METRICS[metric]}, {what}, last epoch", bound,
        against(metric, runs, others, **where, **threshold), published, source="zhao2026", page="12_what_it_needs",
        **more,
    )  # fmt: skip


def _left(measure: str, metric: str, left: float, note: str = ""):
    """What training leaves of a measure, which no constant factor of its formula changes: as published, within a
    factor of two."""
    return _compared(
        f"sgd-{measure.lower()}-left",
        f"Under SGD {measure} ends at {left:g} of its value before training, within a factor of two.", _OPTIMISER,
        metric, _SGD, _UNTRAINED, f"{left:g}{note}", above=left / 2, below=2 * left,
        what="SGD over the same network before training",
        registered="after",
    )  # fmt: skip


_OPTIMISER, _DECAY = "table 2 (ResNet-9 on FashionMNIST)", "fig. 5"
_UNKNOWN_NC2 = "(of a form of NC2 that could not be verified)"
_MUCH_OVER_NONE = "weight decay 2e-3 over none"
_THEIRS = "at decay 5e-3 / none, learning rate 1e-3"

CLAIMS = (
    # Not against SGD, whose sum of rows tells the length of a run and nothing else.
    _on_images(
        "adamw-row-sum", "Under AdamW the classifier's rows do not come to sum to zero.", _OPTIMISER,
        f"{METRICS['nc0_row_sum']}, AdamW, last epoch over first measured one", "above 1",
        through("nc0_row_sum", _ADAMW, WHOLE, since=first_epoch, above=1), source="zhao2026",
        page="12_what_it_needs",
    ),
    _left("NC1", "nc1_pinv", 0.007),
    _left("NC2", "nc2_etf_weights", 0.370, f" {_UNKNOWN_NC2}"),
    _left("NC3", "nc3_frobenius", 0.249),
    _compared(
        "adam-row-sum", "Under Adam the classifier's rows sum to zero less well than under SGD.", _OPTIMISER,
        "nc0_row_sum", _ADAM, _SGD, "0.34 / 2.1e-4", above=1, what="Adam over SGD",
    ),
    _compared(
        "adamw-nc1", "Under AdamW variability collapses less than under SGD (NC1).", _OPTIMISER,
        "nc1_pinv", _ADAMW, _SGD, "0.20 / 0.05", above=1,
    ),
    _compared(
        "adamw-nc2", "Under AdamW the classifiers stay further from the simplex than under SGD (NC2).", _OPTIMISER,
        "nc2_etf_weights", _ADAMW, _SGD, f"0.54 / 0.29 {_UNKNOWN_NC2}", above=1,
    ),
    _compared(
        "adamw-nc3", "Under AdamW classifiers and means stay further apart than under SGD (NC3).", _OPTIMISER,
        "nc3_frobenius", _ADAMW, _SGD, "0.78 / 0.35", above=1,
    ),
    *(
        _compared(
            f"adamw-matched-{form}", f"Under AdamW with a decay as strong as SGD's {statement} than under SGD ({nc}).",
            f"after {_OPTIMISER}", metric, _MATCHED, _SGD, "", above=1, what="AdamW at matched decay over SGD",
        )
        for form, nc, metric, statement in (
            ("nc1", "NC1", "nc1_pinv", "variability collapses less"),
            ("nc2", "NC2", "nc2_etf_weights", "the classifiers stay further from the simplex"),
            ("nc3", "NC3", "nc3_frobenius", "classifiers and means stay further apart"),
        )
    ),
    # By arithmetic it is 0.0517, so that "below 1" could not fail: this asks whether training keeps to it.
    _compared(
        "decay-row-sum", "More weight decay brings the sum of the classifier's rows closer to zero.", _DECAY,
        "nc0_row_sum", _MUCH, _NONE, f"0.31 / 1.75 {_THEIRS}", above=0.0491, below=0.0543, what=_MUCH_OVER_NONE,
    ),
    _compared(
        "decay-nc2", "More weight decay brings the classifiers closer to the simplex (NC2).", _DECAY,
        "nc2_etf_weights", _MUCH, _NONE, f"0.22 / 0.56 {_THEIRS} {_UNKNOWN_NC2}", below=1, what=_MUCH_OVER_NONE,
    ),
    _compared(
        "decay-nc3", "More weight decay brings classifiers and means closer together (NC3).", _DECAY,
        "nc3_frobenius", _MUCH, _NONE, f"0.30 / 0.65 {_THEIRS}", below=1, what=_MUCH_OVER_NONE,
    ),
    _claim(
        "adamw-collapses-less", "Adam with coupled weight decay collapses; with decoupled decay (AdamW) it does not.",
        "abstract",
        "NC1 of AdamW minus NC1 of Adam, CNN1D at width 64, mean over two schedules and two weight decays",
        "above 0", _adamw_collapses_less, source="zhao2026", page="31_controls",
    ),
)  # fmt: skip
