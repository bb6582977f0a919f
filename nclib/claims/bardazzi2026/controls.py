"""Controls the study lacks: its confounded optimisers taken apart, and runs without label noise."""

import pandas as pd

from nclib.claims.bardazzi2026.study import (
    EPOCHS,
    NOISY,
    OWN,
    TRAINING,
    WHOLE,
    frame_at_end,
    in_full,
    judged_runs,
)
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import Verdict, judged, mean_over_seeds
from nclib.tables import select

FACTORS = {"optimizer": ("adam", "sgd"), "schedule": ("constant", "cosine"), "weight_decay": (1e-4, 5e-4)}
"""Low and high level of each factor: Adam's own settings first, SGD's second."""
WIDTH = 64


def factorial(table: pd.DataFrame, architecture: str = "cnn1d") -> pd.DataFrame:
    """Rows of the 2 x 2 x 2 of optimiser, schedule and weight decay at width 64, each optimiser at its own rate."""
    levels = {name: list(values) for name, values in FACTORS.items()}
    rows = judged_runs(
        table, architecture=architecture, width=WIDTH, epochs=EPOCHS, feature_dim=0, **TRAINING, **levels
    )
    rows = pd.concat([select(rows, optimizer=name, lr=own["lr"]) for name, own in OWN.items()])
    return in_full(rows, list(FACTORS), 8)


def effects(rows: pd.DataFrame, metric: str, **where: object) -> pd.DataFrame:
    """Main effects by seed: mean at the high level of a factor minus mean at its low level, over the other two."""
    frame = frame_at_end(rows, metric, list(FACTORS), **where)
    return pd.DataFrame(
        {
            name: frame.xs(high, axis=1, level=name).mean(axis=1, skipna=False)
            - frame.xs(low, axis=1, level=name).mean(axis=1, skipna=False)
            for name, (low, high) in FACTORS.items()
        }
    )


def _of_the_optimiser(metric: str, where: dict[str, str], sign: int = 1, **threshold):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        return mean_over_seeds(sign * effects(factorial(table), metric, **where).optimizer, **threshold)

    return judge


@judged
def _decisive(table: pd.DataFrame) -> Verdict:
    sizes = effects(factorial(table), "nc2_gram_frobenius", **NOISY).abs()
    others = sizes.drop(columns="optimizer").max(axis=1, skipna=False)
    return mean_over_seeds(sizes.optimizer - others, above=0.0)


def _without_noise(metric: str, **threshold):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = judged_runs(
            table, architecture="cnn1d", width=WIDTH, epochs=EPOCHS, feature_dim=0,
            **OWN["adam"], **TRAINING | {"label_noise": 0.0},
        )  # fmt: skip
        rows = in_full(rows, ["width"], 1)
        return mean_over_seeds(frame_at_end(rows, metric, "width", **NOISY)[WIDTH], **threshold)

    return judge


_PAGE = {"page": "31_controls"}
_MATCHED = "CNN1D at width 64, mean over two schedules and two weight decays"
CLAIMS = (
    _claim(
        "sgd-nc2-matched", "At equal schedule and weight decay SGD reaches a better NC2 than Adam.",
        "slides, results 2", f"NC2 of SGD minus NC2 of Adam, {_MATCHED}", "below 0",
        _of_the_optimiser("nc2_gram_frobenius", NOISY, below=0.0), "not measured", numbers=("8", "24"), **_PAGE,
    ),
    _claim(
        "adam-worse-minima-matched", "At equal schedule and weight decay Adam stops in geometrically worse minima.",
        "slides, results 2", f"NC1 of Adam minus NC1 of SGD, {_MATCHED}", "above 0",
        _of_the_optimiser("nc1_trace_ratio_weighted", NOISY, sign=-1, above=0.0), "not measured",
        numbers=("9",), **_PAGE,
    ),
    _claim(
        "sgd-norm-bias-matched", "At equal schedule and weight decay SGD ends with smaller norms.",
        "slides, results 2", f"norm of all parameters under SGD minus that under Adam, {_MATCHED}", "below 0",
        _of_the_optimiser("parameter_norm", WHOLE, below=0.0), "not measured", numbers=("10",), **_PAGE,
    ),
    _claim(
        "optimizer-decisive", "SGD is what decides whether the simplex is reached.", "slides, conclusions",
        "size of the optimiser's effect on NC2 minus the larger of those of schedule and weight decay, "
        "CNN1D at width 64", "above 0", _decisive, "not measured", numbers=("24",), **_PAGE,
    ),
    _claim(
        "nc2-floor-is-noise", "What NC2 keeps at large widths is the label noise's doing.", "README",
        "NC2 (unnormalised Gram distance) without label noise, CNN1D under Adam at width 64", "below 0.1",
        _without_noise("nc2_gram_frobenius", below=0.1), "0.54 with noise", numbers=("R3",), **_PAGE,
    ),
    _claim(
        "nc3-plateau-is-noise", "So is the plateau of NC3.", "README",
        "NC3 (unit rows, uncentred) without label noise, CNN1D under Adam at width 64", "below 0.5",
        _without_noise("nc3_rows_uncentred", below=0.5), "2.84 with noise", numbers=("R3",), **_PAGE,
    ),
)  # fmt: skip
