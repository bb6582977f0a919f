"""What claims about the terminal phase share: which runs are judged, between which epochs, and how it is put."""

from collections.abc import Callable

import pandas as pd

from nclib.claims.verdict import (
    MIN_SEEDS,
    Claim,
    Missing,
    Unrecorded,
    Verdict,
    by_seed,
    evidence,
    final_epoch,
    judged,
    mean_over_seeds,
    per_run,
    terminal_epoch,
    terminal_start,
)
from nclib.tables import select

SMALL = {"train_size": 10_000, "width": 8, "epochs": 75, "lr": 0.0679}
"""The scale at which one thing after the other is varied."""
PROTOCOL_SCALE = {"train_size": 60_000, "width": 64, "epochs": 350, "lr": 0.25}
"""The source's own scale."""
SCALES = (
    PROTOCOL_SCALE,
    {"train_size": 60_000, "width": 16, "epochs": 120, "lr": 0.25},
    {"train_size": 10_000, "width": 16, "epochs": 75, "lr": 0.0679},
)
"""Sizes of the main runs: judged is the first at which three seeds are recorded.

On all images the learning rate is the best of data/grids/terminal_phase_rates.yml; small runs keep the source's."""
NOTEBOOK_RATE, NOTEBOOK_RATE_IN_FULL = (scale | {"lr": 0.0679} for scale in (SCALES[1], PROTOCOL_SCALE))
"""All images at the learning rate of the source's public notebook, which is not the best of ours."""
PROTOCOL = {
    "dataset": "fashion_mnist", "architecture": "resnet18", "optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4,
    "decayed": "all", "feature_decay": 0.0, "classifier": "learned", "feature_dim": 0, "depth": 0,
    "schedule": "step", "batch_size": 128, "loss": "cross_entropy", "label_noise": 0.0, "precision": "bfloat16",
}  # fmt: skip
"""What every run has in common, but for the one thing that is varied."""
TRAIN = {"split": "train", "labels": "clean", "layer": "features"}
NOISY = TRAIN | {"labels": "noisy"}
TEST = {"split": "test", "labels": "clean", "layer": "features"}
THROUGH = "last epoch over first epoch of zero training error"

Runs = Callable[[pd.DataFrame], pd.DataFrame]


def main_runs(*scales: dict[str, object], **what: object) -> Runs:
    """The runs at the first of these scales at which three seeds are recorded; Unrecorded where none has them."""

    def runs(table: pd.DataFrame) -> pd.DataFrame:
        reason = Unrecorded("nothing recorded yet")
        for scale in scales:
            try:
                rows = evidence(table, **PROTOCOL | scale | what)
            except Unrecorded as missing:
                reason = missing
                continue
            seeds = rows.seed.nunique()
            if seeds >= MIN_SEEDS:
                return rows
            reason = Unrecorded(f"{seeds} of at least {MIN_SEEDS} seeds recorded")
        raise reason

    return runs


largest = main_runs(*SCALES)
"""The main runs, at the largest scale there is."""


def varied(**what: object) -> Runs:
    """The runs at the small scale in which this is otherwise."""
    return lambda table: evidence(table, **PROTOCOL | SMALL | what)


def falls(metric: str, below: float, runs: Runs = largest, where: dict[str, str] = TRAIN):
    """Judge a metric at the last epoch over its value at the first epoch of zero training error."""
    return through(metric, runs, where, below=below)


def end_over_start(
    rows: pd.DataFrame,
    metric: str,
    where: dict[str, str] = TRAIN,
    since: Callable[[pd.DataFrame], pd.Series] = terminal_start,
    *,
    floor: float = 0.0,
) -> pd.Series:
    """A metric, less its least value `floor`, at the last epoch over that `since` another, a value a run."""
    start, end = (per_run(rows, metric, epoch(rows), **where) - floor for epoch in (since, final_epoch))
    return end / start


def through(
    metric: str,
    runs: Runs = largest,
    where: dict[str, str] = TRAIN,
    since: Callable[[pd.DataFrame], pd.Series] = terminal_start,
    **threshold: float,
):
    """The same `since` another epoch of each run, and with any threshold: `below` or `above`."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        return mean_over_seeds(
            by_seed(end_over_start(rows, metric, where, since), rows), ratio=True, **threshold
        )

    return judge


def terminal_middle(rows: pd.DataFrame) -> pd.Series:
    """Each run's first measured epoch in the second half of its terminal phase; Missing where that is the last."""
    start, end = terminal_start(rows), final_epoch(rows)
    measured = rows[["run", "epoch"]].drop_duplicates()
    middle = measured.run.map((start + end[start.index]) / 2)
    late = measured[measured.epoch >= middle].groupby("run").epoch.min()
    if (late == end[late.index]).any():
        raise Missing("between the middle of the terminal phase and its end nothing was measured")
    return late


def stays(metric: str, below: float, runs: Runs = largest, where: dict[str, str] = TRAIN):
    """Judge the largest value of a metric that is measured in the terminal phase."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        start = terminal_start(rows)
        found = select(rows, metric=metric, **where)
        found = found[found.epoch >= found.run.map(start)].groupby("run").value
        worst = found.agg(lambda v: v.max(skipna=False))
        if lacking := len(start.index.difference(worst.index)):
            raise Missing(f"{lacking} of {len(start)} runs lack {metric}")
        return mean_over_seeds(by_seed(worst, rows), below=below)

    return judge


def at_end(metric: str, below: float, runs: Runs = largest, where: dict[str, str] = TRAIN):
    """Judge a metric at the last epoch of runs that reach zero training error."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        terminal_epoch(rows)  # a run that never enters the terminal phase says nothing about it
        return mean_over_seeds(by_seed(per_run(rows, metric, final_epoch(rows), **where), rows), below=below)

    return judge


def against(
    metric: str,
    runs: Runs,
    others: Runs,
    where: dict[str, str] = TRAIN,
    elsewhere: dict[str, str] | None = None,
    **threshold: float,
):
    """Judge a metric at the last epoch over that of other runs with the same seed, which may stand `elsewhere`."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        these, those = (
            by_seed(per_run(rows, metric, final_epoch(rows), **place), rows)
            for rows, place in ((runs(table), where), (others(table), elsewhere or where))
        )
        paired = these.index.intersection(those.index)
        return mean_over_seeds(these[paired] / those[paired], ratio=True, **threshold)

    return judge


def error_change(runs: Runs = largest):
    """Judge the test error at the last epoch minus that at the first epoch of zero training error."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        start = per_run(rows, "error", terminal_start(rows), **TEST)
        end = per_run(rows, "error", final_epoch(rows), **TEST)
        return mean_over_seeds(by_seed(end - start, rows), below=0.0)

    return judge


def claim(
    name: str, statement: str, place: str, measure: str, predicate: str, judge, published: str = "", **more
) -> Claim:
    """A claim on this study; of papyan2020 in its first chapter unless `more` says otherwise."""
    common = {"source": "papyan2020", "study": "terminal_phase", "page": "10_terminal_phase"} | more
    return Claim(
        id=f"{common['source']}-{name}", statement=statement, place=place, measure=measure, predicate=predicate,
        judge=judge, published=published, **common,
    )  # fmt: skip
