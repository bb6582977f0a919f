"""Experiment 2: error and collapse over epochs, at a critical and at a large width (ResNet1D under Adam)."""

from collections.abc import Callable

import pandas as pd

from nclib.claims.bardazzi2026.study import FRESH, OWN, TRAINING, in_full, judged_runs, over_epochs
from nclib.claims.bardazzi2026.study import claim as _claim
from nclib.claims.verdict import Verdict, judged, mean_over_seeds

CRITICAL, LARGE = 12, 64
LENGTH = {CRITICAL: 3000, LARGE: 1000}
"""Epochs of the judged runs by width; the study has 15000 of both."""
AVERAGED = FRESH | {"layer": "averaged"}
NOISY_NC1 = {"split": "train", "labels": "noisy", "layer": "features"}


def epoch_wise(table: pd.DataFrame, width: int, schedule: str = "constant") -> pd.DataFrame:
    """Rows of experiment 2 at one width, Adam's rate constant unless said otherwise."""
    own = OWN["adam"] | {"schedule": schedule}
    rows = judged_runs(
        table, architecture="resnet1d", width=width, feature_dim=0, epochs=LENGTH[width],
        **own, **TRAINING | {"averaged": True},
    )  # fmt: skip
    return in_full(rows, ["width"], 1)


def _judge(width: int, value: Callable[[pd.DataFrame], pd.Series], **threshold):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        return mean_over_seeds(value(epoch_wise(table, width)), **threshold)

    return judge


def chosen_on_the_others(errors: pd.DataFrame, choose: Callable[[pd.Series], int]) -> pd.Series:
    """Each seed's error at the epoch that the mean of the *other* seeds picks."""
    return pd.Series({s: errors.loc[s, choose(errors.drop(index=s).mean())] for s in errors.index})


def _fluctuation(rows: pd.DataFrame) -> pd.Series:
    errors, smooth = over_epochs(rows, "error", **FRESH), over_epochs(rows, "error", **AVERAGED)
    late = [e for e in errors if e >= 100]
    return (errors[late] - smooth[late]).abs().max(axis=1)


def _still_rising(rows: pd.DataFrame) -> pd.Series:
    errors = over_epochs(rows, "error", **AVERAGED)
    last = max(errors)
    return errors[last] - errors[min(e for e in errors if e >= last / 10)]


def _rise_outside_the_bump(rows: pd.DataFrame) -> pd.Series:
    errors = over_epochs(rows, "error", **FRESH)
    rises = errors - errors.cummin(axis=1)
    return rises[[e for e in errors if not 50 <= e <= 200]].max(axis=1)


def _bump(rows: pd.DataFrame) -> pd.Series:
    errors = over_epochs(rows, "error", **FRESH)
    before, inside = [e for e in errors if e < 50], [e for e in errors if 50 <= e <= 200]
    beside = pd.concat([errors[before].min(axis=1), errors[max(errors)]], axis=1)
    return errors[inside].max(axis=1) - beside.max(axis=1)


def _nc1_at_end(rows: pd.DataFrame) -> pd.Series:
    nc1 = over_epochs(rows, "nc1_trace_ratio_weighted", **NOISY_NC1)
    return nc1[max(nc1)]


def second_descent(rows: pd.DataFrame) -> pd.Series:
    """Height of the hill that the averaged weights' error climbs and comes down from, epochs chosen on others."""
    errors = over_epochs(rows, "error", **AVERAGED)

    def minimum_before(mean: pd.Series) -> int:
        return int(mean[: _peak(mean)].idxmin())

    low, high = chosen_on_the_others(errors, minimum_before), chosen_on_the_others(errors, _peak)
    return high - pd.concat([low, errors[max(errors)]], axis=1).max(axis=1)


def _peak(mean: pd.Series) -> int:
    """The epoch of the highest point after the lowest of the first half, on a log scale, of training."""
    early = mean[[e for e in mean.index if e * e <= mean.index[-1]]]
    return int(mean[early.idxmin() :].idxmax())


def final_rise(rows: pd.DataFrame) -> pd.Series:
    """The averaged weights' last error minus that at the minimum, its epoch chosen on the other seeds."""
    errors = over_epochs(rows, "error", **AVERAGED)
    return errors[max(errors)] - chosen_on_the_others(errors, lambda mean: int(mean.idxmin()))


_PAGE = {"page": "32_epoch_wise"}
_OF = {CRITICAL: f"ResNet1D of width {CRITICAL} under Adam", LARGE: f"ResNet1D of width {LARGE} under Adam"}
CLAIMS = (
    _claim(
        "critical-fluctuates", "The critical network's error fluctuates massively.", "report, experiment 2",
        f"largest difference of test error between weights and their average from epoch 100 on, {_OF[CRITICAL]}",
        "above 0.05", _judge(CRITICAL, _fluctuation, above=0.05), "not measured", numbers=("R9",), **_PAGE,
    ),
    _claim(
        "critical-stabilises", "The critical network's error then stabilises.", "README",
        f"change of the averaged weights' test error over the last nine tenths of training, {_OF[CRITICAL]}",
        "between -0.01 and 0.01", _judge(CRITICAL, _still_rising, above=-0.01, below=0.01),
        "+0.12 from epoch 1000 to 15000, weights not averaged", numbers=("R9",), **_PAGE,
    ),
    _claim(
        "large-monotone", "The large network's error falls monotonically, but for a bump around epoch 100.",
        "README",
        f"largest rise above the lowest error so far outside epochs 50 to 200, {_OF[LARGE]}", "below 0.02",
        _judge(LARGE, _rise_outside_the_bump, below=0.02), "0.15: spikes to 0.19 over 0.035", numbers=("R8",), **_PAGE,
    ),
    _claim(
        "large-bump", "The large network's error has a bump around epoch 100.", "README",
        "largest error in epochs 50 to 200 minus the larger of the least error before and the last, "
        f"{_OF[LARGE]}", "above 0.02",
        _judge(LARGE, _bump, above=0.02), "error 0.10 to 0.29 in epochs 30 to 99", numbers=("R8",), **_PAGE,
    ),
    _claim(
        "large-nc1-collapses", "The large network's NC1 collapses within 2000 epochs.", "README",
        f"NC1 (trace ratio, noisy labels) after 1000 epochs, {_OF[LARGE]}", "below 0.1",
        _judge(LARGE, _nc1_at_end, below=0.1), "not shown", numbers=("R8",), **_PAGE,
    ),
)  # fmt: skip
