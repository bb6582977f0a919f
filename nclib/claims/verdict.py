"""What a claim is, and how a table decides it: supported, not supported, or inconclusive with a reason."""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from nclib.tables import matches, select

MIN_SEEDS = 3
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Verdict:
    """The outcome of one claim on one table."""

    status: Literal["supported", "not supported", "inconclusive"]
    number: float | None = None
    """What was measured, in the words of the claim's `measure`."""
    low: float | None = None
    """Lower end of the interval: a 95 % t-interval of the mean over seeds, or the smallest of all runs."""
    high: float | None = None
    n: int = 0
    """How many seeds (or runs) the number rests on."""
    reason: str = ""
    """Why it is inconclusive, or why there is no number."""
    awaits_runs: bool = False
    """Whether it is inconclusive because runs are not recorded yet; any other reason is a finding."""

    def __str__(self) -> str:
        if self.number is None:
            return f"{self.status}: {self.reason}"
        text = f"{self.status}: {show(self.number)} [{show(self.low)}, {show(self.high)}], n = {self.n}"
        return f"{text} ({self.reason})" if self.reason else text


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A published sentence, and the predicate that judges it, written down before the runs it judges."""

    id: str
    """Permanent: links and citations point at it."""
    statement: str
    source: str
    """Citation key in book/references.bib."""
    place: str
    study: str
    measure: str
    """What the number is, in one phrase."""
    predicate: str
    """The condition on the number, with its threshold."""
    judge: Callable[[pd.DataFrame], Verdict]
    published: str = ""
    """The published value of the same quantity, where one is at hand."""
    registered: Literal["before", "after"] = "before"
    """Whether the predicate was committed before runs of its kind existed."""
    page: str = ""
    """The notebook whose figure shows the evidence."""
    numbers: tuple[str, ...] = ()
    """Which entries of the source's list of claims it judges, where the book numbers them."""


class Missing(Exception):
    """The table lacks what a claim needs; carries the reason for an inconclusive verdict."""


class Unrecorded(Missing):
    """What it lacks are runs that nobody has recorded yet."""


def judged(judge: Callable[[pd.DataFrame], Verdict]) -> Callable[[pd.DataFrame], Verdict]:
    """A judge whose missing evidence becomes an inconclusive verdict instead of an error."""

    def wrapped(table: pd.DataFrame) -> Verdict:
        try:
            return judge(table)
        except Missing as missing:
            return Verdict("inconclusive", reason=str(missing), awaits_runs=isinstance(missing, Unrecorded))

    wrapped.__doc__ = judge.__doc__
    return wrapped


def evidence(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows a claim rests on; Unrecorded when there are none."""
    if table.empty:
        raise Unrecorded("nothing recorded yet")
    keep = np.ones(len(table), dtype=bool)  # the rows are copied once, not once a clause
    for name, value in where.items():
        keep &= matches(table, name, value).to_numpy(dtype=bool)
        if not keep.any():
            raise Unrecorded(f"no such run with {name} = {value} recorded yet")
    return table[keep]


def per_run(rows: pd.DataFrame, metric: str, at: pd.Series, **where: object) -> pd.Series:
    """Value of one metric by run, each at its own epoch `at[run]`; Missing when a run has no number there.

    Exact epochs, never "the last one there is": a run that diverged must not be judged by an earlier epoch.
    """
    rows = select(rows, metric=metric, **where)
    epochs = rows.run.map(at)
    values = rows[rows.epoch == epochs].set_index("run").value
    if values.index.has_duplicates:
        raise Missing(f"{metric} is not one number per run: the claim must say which split, layer and labels")
    absent = set(at.index) - set(values.index)
    if absent:
        raise Missing(f"{metric} is missing from {len(absent)} of {len(at)} runs")
    if not values.map(math.isfinite).all():
        raise Missing(f"{metric} is not a finite number in {int((~values.map(math.isfinite)).sum())} runs")
    return values


def first_epoch(rows: pd.DataFrame) -> pd.Series:
    """Each run's first measured epoch."""
    return rows.groupby("run").epoch.min()


def final_epoch(rows: pd.DataFrame) -> pd.Series:
    """Each run's last epoch as its parameters have it; Missing when a run's table stops earlier."""
    by_run = rows.groupby("run")
    planned, reached = by_run.epochs.first(), by_run.epoch.max()
    if (reached < planned).any():
        raise Missing(f"{int((reached < planned).sum())} runs stop before their last epoch")
    return planned.astype(int)


def terminal_epoch(rows: pd.DataFrame, at_most: float = 0.0) -> pd.Series:
    """Each run's first measured epoch with training error at most `at_most`; Missing when a run has none.

    The error is that on the labels trained on, which under label noise are the noisy ones.
    """
    errors = select(rows, metric="error", split="train", layer="features")
    if (errors.labels == "noisy").any():
        errors = select(errors, labels="noisy")
    reached = errors[errors.value <= at_most].groupby("run").epoch.min()
    absent = rows.run.nunique() - len(reached)
    if absent or reached.empty:
        raise Missing(f"{absent} runs never reach training error {at_most:g}")
    return reached


def terminal_start(rows: pd.DataFrame) -> pd.Series:
    """As `terminal_epoch`, of runs that are trained on after it; Missing when one is not.

    A ratio of an epoch to itself is one, and would be judged as if nothing had moved.
    """
    start, end = terminal_epoch(rows), final_epoch(rows)
    at_once = int((start == end[start.index]).sum())
    if at_once:
        raise Missing(f"{at_once} runs first reach training error 0 at their last epoch")
    return start


def by_seed(values: pd.Series, rows: pd.DataFrame) -> pd.Series:
    """Values by run, relabelled by seed; Missing when a seed stands there twice."""
    seeds = rows.groupby("run").seed.first()
    relabelled = values.rename(index=seeds)
    if relabelled.index.has_duplicates:
        raise Missing("a seed stands for several runs: the claim must say which")
    return relabelled


def mean_over_seeds(
    values: pd.Series, *, below: float | None = None, above: float | None = None, ratio: bool = False
) -> Verdict:
    """Judge the mean over seeds by its 95 % t-interval.

    Supported when the whole interval lies within (above, below), not supported when the whole interval lies
    outside, inconclusive when it straddles a threshold, with fewer than three seeds or with a value that is
    no number. A `ratio` is averaged and given its interval on the log scale.
    """
    if below is None and above is None:
        raise ValueError("a predicate needs a threshold: below, above or both")
    values = values.astype(float)
    if len(values) < MIN_SEEDS:
        return _too_few(len(values), "seeds")
    if not values.map(math.isfinite).all() or (ratio and (values <= 0).any()):
        return Verdict("inconclusive", n=len(values), reason="a seed's value is not a usable number")
    x = values.map(math.log) if ratio else values
    centre, error = x.mean(), x.std(ddof=1) / math.sqrt(len(x))
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * error
    ends = [centre, centre - half, centre + half]
    number, low, high = (math.exp(v) for v in ends) if ratio else ends
    return _against(number, low, high, len(x), below, above)


EXACT_UP_TO = 5
"""Seeds whose resamples are enumerated; of more, `DRAWS` resamples are drawn."""
DRAWS = 4000


def bootstrap_over_seeds(
    statistic: Callable[[np.ndarray], float],
    n: int,
    *,
    below: float | None = None,
    above: float | None = None,
) -> Verdict:
    """Judge a statistic of all seeds by the 95 % percentile interval over resamples of them.

    `statistic` takes the positions of the n seeds resampled, with repetition. For a statistic that is no mean
    over seeds, such as a correlation of mean curves. Up to five seeds the interval is exact, over all n^n
    resamples. Verdicts as in `mean_over_seeds`.
    """
    if n < MIN_SEEDS:
        return _too_few(n, "seeds")
    if n <= EXACT_UP_TO:
        samples = [*itertools.combinations_with_replacement(range(n), n)]
        weights = [math.factorial(n) / math.prod(map(math.factorial, Counter(s).values())) for s in samples]
    else:
        samples, weights = np.random.default_rng(0).integers(0, n, size=(DRAWS, n)), [1.0] * DRAWS
    number = float(statistic(np.arange(n)))
    values = np.array([statistic(np.array(sample)) for sample in samples])
    if not (math.isfinite(number) and np.isfinite(values).all()):
        return Verdict("inconclusive", n=n, reason="a resample's value is not a usable number")
    low, high = _weighted_quantiles(values, np.array(weights), ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return _against(number, min(low, number), max(high, number), n, below, above)


def _weighted_quantiles(values: np.ndarray, weights: np.ndarray, at: tuple[float, ...]) -> list[float]:
    """The smallest value that at least this share of the weight does not exceed."""
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    return [float(values[order][np.searchsorted(share, q - 1e-12)]) for q in at]


def every_run(values: pd.Series, *, below: float | None = None, above: float | None = None) -> Verdict:
    """Judge a statement about all runs by the worst of them; the interval is the range over runs."""
    if below is None and above is None:
        raise ValueError("a predicate needs a threshold: below, above or both")
    if len(values) < MIN_SEEDS:
        return _too_few(len(values), "runs")
    if not values.map(math.isfinite).all():
        return Verdict("inconclusive", n=len(values), reason="a run's value is not a finite number")
    low, high = float(values.min()), float(values.max())
    holds = (below is None or high < below) and (above is None or low > above)
    worst = high if below is not None else low
    return Verdict("supported" if holds else "not supported", worst, low, high, len(values))


def _too_few(n: int, what: str) -> Verdict:
    return Verdict(
        "inconclusive", n=n, reason=f"{n} of at least {MIN_SEEDS} {what} recorded", awaits_runs=True
    )


def _against(
    number: float, low: float, high: float, n: int, below: float | None, above: float | None
) -> Verdict:
    inside = (below is None or high < below) and (above is None or low > above)
    outside = (below is not None and low >= below) or (above is not None and high <= above)
    status = "supported" if inside else "not supported" if outside else "inconclusive"
    reason = "the interval straddles the threshold" if status == "inconclusive" else ""
    return Verdict(status, float(number), float(low), float(high), n, reason)


def by_sign(verdict: Verdict) -> Verdict:
    """The verdict on a ratio were its condition "below 1": whether it fell at all, and not by how much."""
    if verdict.number is None or verdict.low is None or verdict.high is None:
        return verdict
    return _against(verdict.number, verdict.low, verdict.high, verdict.n, 1.0, None)


def show(value: float | None) -> str:
    """A number as pages print it: three significant digits."""
    return "–" if value is None else f"{value:.3g}"
