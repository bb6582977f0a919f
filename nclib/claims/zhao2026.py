"""Zhao, Cheng, Masarczyk & Lucchi (2026): whether weight decay is coupled to the gradient decides about collapse."""

import pandas as pd

from nclib.claims.bardazzi2026.controls import FACTORS, WIDTH
from nclib.claims.bardazzi2026.study import EPOCHS, NOISY, OWN, TRAINING, frame_at_end, in_full, judged_runs
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import Verdict, judged, mean_over_seeds


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


CLAIMS = (
    _claim(
        "adamw-collapses-less", "Adam with coupled weight decay collapses; with decoupled decay (AdamW) it does not.",
        "abstract",
        "NC1 of AdamW minus NC1 of Adam, CNN1D at width 64, mean over two schedules and two weight decays",
        "above 0", _adamw_collapses_less, source="zhao2026", page="31_controls",
    ),
)  # fmt: skip
