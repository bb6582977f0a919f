"""Claims: each is judged both ways at its written threshold, and inconclusive whenever evidence is wanting."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from nclib import claims, runs, tables
from nclib.claims import bardazzi2026, nakkiran2020, terminal_phase
from nclib.claims.bardazzi2026 import correlation, epoch_wise, feature_dimension
from nclib.claims.verdict import (
    Missing,
    Verdict,
    bootstrap_over_seeds,
    by_seed,
    by_sign,
    every_run,
    evidence,
    final_epoch,
    judged,
    mean_over_seeds,
    per_run,
    terminal_epoch,
)
from nclib.models import build
from nclib.studies import clock, generator, grids
from nclib.theory.checks import PAPERS, violations

CELLS = {name: cells for name, (_, cells) in grids.published().items()}
"""The parameters of the runs that are really recorded: what the claims select must be among them."""
TRAIN, TEST = ("train", "clean", "features"), ("test", "clean", "features")
NOISY, FRESH = ("train", "noisy", "features"), ("fresh", "clean", "features")
WHOLE = ("none", "none", "all")
CONFIGURATIONS = [(a, o) for a in ("resnet1d", "cnn1d") for o in ("sgd", "adam")]
COLLAPSE = ("nc1_pinv", "nc2_etf_weights", "nc3_etf")
DECOY = 123.456
"""Stands at epochs, splits, metrics that no claim may read."""


def table(recorded: list[tuple[object, dict]]) -> pd.DataFrame:
    """A joined table from (Params, {(split, labels, layer, metric, epoch): value}) a run, in memory as on disk."""
    rows = [
        (f"{i:016x}", cell.seed, epoch, split, labels, layer, metric, value)
        for i, (cell, values) in enumerate(recorded)
        for (split, labels, layer, metric, epoch), value in values.items()
    ]
    frame = tables.check(pd.DataFrame(rows, columns=list(tables.COLUMNS)))
    params = {f"{i:016x}": every_parameter(cell) for i, (cell, _) in enumerate(recorded)}
    return runs.join(frame, params, {})


every_parameter = cache(dataclasses.asdict)


# One made-up table a claim: `make(values)` gives a table on which the claim's number is values[seed]


def small(**what):
    """The runs in which one thing is varied: this is so in them, and all else as in the main runs."""
    plain = every_parameter(CELLS["terminal_phase_settings"][0]) | what
    wanted = [{**plain, "seed": seed} for seed in range(3)]
    found = [cell for cell in CELLS["terminal_phase_settings"] if every_parameter(cell) in wanted]
    assert len(found) == 3
    return found


def terminal(
    read: dict[tuple, Callable[[float], dict[int, float]]], cells: Sequence = CELLS["terminal_phase"]
) -> Callable[[list[float]], pd.DataFrame]:
    """Zero training error from epoch 10 on; `read` gives values by epoch at each (split, ..., metric).

    Epoch 75 is the last of the small runs, and stands for the last of any.
    """

    def make(values):
        recorded = []
        for cell, v in zip(cells, values, strict=False):
            given = NOISY if cell.label_noise else TRAIN
            rows = {(*given, "error", e): x for e, x in {1: 0.5, 9: 1e-4, 10: 0.0, 50: 0.0, 75: 0.0}.items()}
            if cell.label_noise:
                rows |= {(*TRAIN, "error", e): 0.0 for e in (1, 9, 10, 50, 75)}
            for where, by_epoch in read.items():
                rows |= {(*where, e): DECOY for e in (1, 9, 50)}
                rows |= {(*where, e): x for e, x in by_epoch(v).items()}
            rows = {(*where, cell.epochs if e == 75 else e): x for (*where, e), x in rows.items()}
            recorded.append((cell, rows))
        return table(recorded)

    return make


def paired(metric, these, those, where=TRAIN, other=None):
    """Some runs end with the value, the runs they are compared with end at 1."""
    wheres = (where, other or where)

    def make(values):
        recorded = []
        for cells, place, mine in zip((these, those), wheres, (True, False), strict=True):
            for cell, v in zip(cells, values, strict=False):
                given = NOISY if cell.label_noise else TRAIN
                last = 75 if cell.epochs else 0
                rows = {
                    (*given, "error", last): 0.1,
                    (*place, metric, 1): DECOY,
                    (*place, metric, last): v if mine else 1.0,
                }
                recorded.append((cell, rows))
        return table(recorded)

    return make


def falls(metric, cells=CELLS["terminal_phase"], where=TRAIN):
    decoy = TEST if where == TRAIN else ("test", "noisy", "features")
    return terminal(
        {(*where, metric): lambda v: {10: 2.0, 75: 2.0 * v}, (*decoy, metric): lambda v: {75: DECOY}}, cells
    )


def robust(at_start=1.0, at_the_end=1.0, cells=CELLS["terminal_phase"]):
    """DeepFool's distances, and the shares of images that they are of."""
    attacked = ("test", "none", "all")
    return terminal(
        {
            (*attacked, "deepfool_relative_mean"): lambda v: {10: 2.0, 75: 2.0 * v},
            (*attacked, "deepfool_found"): lambda _: {10: at_start, 75: at_the_end},
            ("train", "none", "all", "deepfool_relative_mean"): lambda _: {75: DECOY},
        },
        cells,
    )


def at_end(metric, cells=CELLS["terminal_phase"], where=TRAIN):
    return terminal(
        {(*where, metric): lambda v: {10: DECOY, 75: v}, (*TEST, metric): lambda v: {75: DECOY}}, cells
    )


def rises(metric, cells=CELLS["terminal_phase"]):
    return terminal({(*TEST, metric): lambda v: {10: 0.2, 75: 0.2 + v}}, cells)


ADAM, ADAMW = small(optimizer="adam", lr=1e-3), small(optimizer="adamw", lr=1e-3)
MUCH, NONE = small(weight_decay=2e-3), small(weight_decay=0.0)
UNTRAINED = CELLS["terminal_phase_initial"]


def free(
    where: tuple, read: Callable[[float], float] = float, beyond: bool = False, epoch: int | None = None
):
    """The unconstrained-feature grid; the worst of the runs the claim is about has the value, the others half."""

    def make(values):
        recorded, given = [], set()
        for cell in CELLS["unconstrained"]:
            if cell.seed >= len(values):
                continue
            mine = (cell.lambda_W == 0.03) == beyond
            v = values[cell.seed] if mine else DECOY
            if mine and cell.optimizer in given:
                v *= 0.5 if v > 0 else 2  # further inside, whichever side that is
            given.add(cell.optimizer if mine else None)
            at = cell.epochs if epoch is None else epoch
            rows = {(*where, e): DECOY for e in (0, 1, cell.epochs)} | {
                (*where, at): read(v) if mine else DECOY
            }
            if where[-1] == "curvature":
                rows |= {(*where[:-1], "curvature_error", 0): 1e-12}
            recorded.append((cell, rows))
        return table(recorded)

    return make


def cells_like(place: str, **what) -> list:
    """Seeds 0 to 2 of the runs at a place that are so, and in all else as the plain ones there."""
    grids_there = (f"zhu2021_{place.replace('-', '_')}", "terminal_phase_settings", "terminal_phase")
    cells = [cell for name in grids_there for cell in CELLS[name]]
    wanted = every_parameter(cells[0]) | what
    free_of = {name: ... for name in ("attacked", "pictures", "seed")}
    found = {c.seed: c for c in cells if every_parameter(c) | free_of == wanted | free_of and c.seed < 3}
    assert len(found) == 3, f"no such runs in the grids: {what}"
    return [found[seed] for seed in range(3)]


def ended(read: dict[tuple, Callable[[float], float]], *groups: Sequence):
    """Runs of zero training error from epoch 3 on, whose numbers at the last epoch (of the first group) are read.

    Of the other groups they are 0.1.
    """

    def make(values):
        recorded = []
        for cells in groups:
            for cell, v in zip(cells, values, strict=False):
                rows = {(*TRAIN, "error", e): x for e, x in {1: 0.5, 3: 0.0, cell.epochs: 0.0}.items()}
                for where, number in read.items():
                    rows |= {(*where, 1): 1.0, (*where, 3): DECOY}
                    rows[(*where, cell.epochs)] = number(v) if cells is groups[0] else 0.1
                recorded.append((cell, rows))
        return table(recorded)

    return make


def memorised(place: str, widths: Sequence[int], **what):
    """The wider half memorises random labels; of all widths this share collapses just where it memorises."""

    def make(values):
        recorded = []
        for w in widths:
            for cell, v in zip(cells_like(place, label_noise=1.0, width=w, **what), values, strict=True):
                fits = w >= widths[len(widths) // 2]
                agrees = widths.index(w) < round(v * len(widths))
                collapse = 0.1 if fits == agrees else 0.9
                ends = {
                    "error": 0.005 if fits else 0.5,
                    "nc1_pinv": collapse,
                    "nc2_etf_weights": 0.05,
                    "nc3_etf": 0.05,
                }
                rows = {(*NOISY, metric, e): DECOY for metric in ends for e in (1, 3)}
                rows |= {(*NOISY, metric, cell.epochs): x for metric, x in ends.items()}
                recorded.append((cell, rows))
        return table(recorded)

    return make


def as_true(metric: str, place: str, width: int):
    """Memorised random labels end with the value, true ones at the same width at 1."""

    def make(values):
        made = paired(
            metric,
            cells_like(place, label_noise=1.0, width=width),
            cells_like(place, width=width),
            NOISY,
            TRAIN,
        )(values)
        return made.assign(
            epoch=made.epoch.where(made.epoch == 1, made.epochs),
            value=made.value.mask(made.metric == "error", 0.005),
        )

    return make


def from_starts(metric: str, methods: Sequence[str]):
    """Runs from many starts; the worst run of these methods has the value, their others half of it."""

    def make(values):
        recorded, given = [], set()
        for cell in CELLS["landscape"]:
            if cell.seed >= len(values):
                continue
            mine = cell.method in methods
            v = values[cell.seed] * (0.5 if cell.method in given else 1.0) if mine else DECOY
            given.add(cell.method)
            others = {"objective_gap_max", "other_minima"} - {metric}
            rows = {("train", "clean", "restarts", each, cell.epochs): DECOY for each in others}
            rows |= {("train", "clean", "restarts", "saddles", cell.epochs): 7.0}
            rows |= {("train", "clean", "restarts", metric, e): x for e, x in ((0, DECOY), (cell.epochs, v))}
            recorded.append((cell, rows))
        return table(recorded)

    return make


def theorem(paper: str, *names: str):
    """The last of the named statements is violated by the value, the others by half of it, unnamed ones by far."""

    def make(values):
        recorded = []
        for cell in CELLS["statements"]:
            if cell.seed >= len(values):
                continue
            v = values[cell.seed]
            by_name = dict.fromkeys(names, v / 2) | {names[-1]: v, "another statement": DECOY}
            if cell.paper != paper:
                by_name = dict.fromkeys(by_name, DECOY)
            rows = {("none", "none", name, "violation_max", 0): x for name, x in by_name.items()}
            recorded.append((cell, rows))
        return table(recorded)

    return make


THEOREMS = {
    "zhu2021-theorem-minimum": ("zhu2021", "value", "stationarity", "norms", "no point below"),
    "zhu2021-theorem-lower-bound": ("zhu2021", "lower bound", "lower bound attained"),
    "zhu2021-theorem-certificate": ("zhu2021", "certificate", "partner below f", "partner above minimum"),
    "zhu2021-theorem-strict-saddle": ("zhu2021", "threshold", "curvature"),
    "zhu2021-theorem-saddles": (
        "zhu2021_saddles", "stationarity at saddles", "threshold at saddles", "curvature at saddles",
    ),
    "zhu2021-theorem-balance": ("zhu2021", "balance", "centred classifier"),
    "zhu2021-theorem-descent": (
        "zhu2021_descent", "descent reaches the value", "no point below", "balance", "certificate",
    ),
    "zhu2021-theorem-descent-value": ("zhu2021_descent", "descent reaches the value", "no point below"),
    "tirer2022-theorem-minimum": ("tirer2022", "value", "stationarity", "norms", "no point below"),
    "tirer2022-theorem-partner": ("tirer2022", "certificate", "partner below f"),
    "tirer2022-theorem-extended": ("tirer2022_extended", "value", "stationarity", "no point below"),
    "ji2021-theorem-margin": ("ji2021", "bound attained", "unit margin", "margin bound"),
    "ji2021-theorem-conservation": ("ji2021", "conservation"),
    "mixon2020-theorem-strong-collapse": ("mixon2020", "no loss", "distances", "conservation"),
}  # fmt: skip
"""The paper and the statements that each claim on a theorem is about."""


PEAKED = {
    2: 0.6,
    4: 0.5,
    6: 0.302,
    8: 0.3,
    10: 0.301,
    12: 0.305,
    16: 0.4,
    24: 0.305,
    32: 0.3,
    48: 0.29,
    64: 0.28,
}
"""Test error by width: first minimum at 8, peak at 16 (3440 and 5936 parameters)."""


def by_width(change: Callable[[str, str, str, int, float], float | None], number_of_seeds: int | None = None):
    """The model-wise grid; `change(metric, architecture, optimizer, width, v)` replaces a plain value."""

    def make(values):
        recorded = []
        for cell in CELLS["model_wise"]:
            if cell.seed >= len(values):
                continue
            w, sgd = cell.width, cell.optimizer == "sgd"
            plain = {
                (*FRESH, "error"): PEAKED[w],
                ("test", "clean", "features", "error"): DECOY,
                ("train_mislabelled", "noisy", "features", "error"): 0.02,
                ("train_mislabelled", "clean", "features", "error"): DECOY,
                (*NOISY, "nc1_trace_ratio_weighted"): 0.05 if w == 64 else 3 * PEAKED[w],
                (*TRAIN, "nc1_trace_ratio_weighted"): DECOY,
                (*NOISY, "nc4_mismatch"): 0.0,
                (*NOISY, "nc2_gram_frobenius"): 0.05 if sgd else 1.0,
                (*NOISY, "nc3_rows_uncentred"): 0.05 if sgd else 1.0,
                (*WHOLE, "parameter_norm"): 5.0 if sgd else 6.0,
                (*WHOLE, "parameters"): 100.0,
                (*NOISY, "error"): PEAKED[w] / 2,
                (*NOISY, "nc3_cosine"): 0.5,
            }
            rows = {}
            for where, value in plain.items():
                name = {"train_mislabelled": "memorised", "train": f"training {where[-1]}"}.get(where[0])
                name = name if name in ("memorised", "training error") else where[-1]
                changed = change(name, cell.architecture, cell.optimizer, w, values[cell.seed])
                rows[*where, 100] = DECOY
                rows[*where, 300] = value if changed is None or value == DECOY else changed
            recorded.append((cell, rows))
        return table(recorded)

    return make


def first(a, o):
    return (a, o) == ("resnet1d", "sgd")


def at(metric, width, inside):
    """The value in one configuration, a little further inside in the others."""
    return by_width(
        lambda m, a, o, w, v: None if (m, w) != (metric, width) else v if first(a, o) else inside(v)
    )


def sgd_against_adam(metric):
    def change(m, a, o, w, v):
        return None if m != metric or w != 64 or o == "adam" else 1 + v - 0.5 * (a == "cnn1d")

    return by_width(change)


def at_64(metric, value):
    """Changes one metric at width 64: `value` of the configuration ("resnet1d/sgd") and v, or None."""
    return by_width(lambda m, a, o, w, v: value(f"{a}/{o}", v) if (m, w) == (metric, 64) else None)


def rough(m, a, o, w, v):
    """Error that goes up and down by turns: a second difference of 1 under Adam, of 1 + v at most under SGD."""
    if m != "error":
        return None
    size = 1.0 if o == "adam" else 1 + v - 0.5 * (a == "cnn1d")
    return 2 + (-1) ** bardazzi2026.WIDTHS.index(w) * size / 4


def peak_at(m, a, o, w, v):
    return 0.5 if m == "error" and w == 12 and v == 1 and (a, o) == ("resnet1d", "adam") else None


def best_is_resnet_adam(m, a, o, w, v):
    if m != "error" or w != 64:
        return None
    return {"resnet1d/adam": 0.27 + v, "cnn1d/adam": 0.27, "resnet1d/sgd": 0.28}.get(f"{a}/{o}", 0.29)


def correlated(m, a, o, w, v):
    """NC1 with the ranks of the error, but for swaps: Spearman's 1 - 6 sum d^2 / 1320 is v."""
    if m != "nc1_trace_ratio_weighted":
        return None
    ranked = sorted(PEAKED, key=lambda width: (PEAKED[width], width))
    errors = pd.Series(PEAKED).rank()
    swaps = {
        1.0: (),
        0.909: ((0, 3), (9, 10)),
        0.891: ((0, 3), (5, 6), (7, 8), (9, 10)),
        0.6: ((0, 6), (7, 10)),
    }[v]
    order = dict.fromkeys(ranked)
    for width in ranked:
        order[width] = errors[width]
    for i, j in swaps:
        order[ranked[i]], order[ranked[j]] = order[ranked[j]], order[ranked[i]]
    return 0.1 * order[w]


def in_range(m, a, o, w, v):
    """With v = 0.75 the peak of one configuration lies at width 48, beyond 10^4 parameters."""
    return 0.5 if m == "error" and w == 48 and v == 0.75 and first(a, o) else None


def partly(m, a, o, w, v):
    """Training error unlike the test error; NC1 in the order of the test error (v = 1) or against it (v = -1)."""
    if m == "training error":
        return float(bardazzi2026.WIDTHS.index(w))
    return 10 + v * permuted(w, ()) if m == "nc1_trace_ratio_weighted" else None


def by_dimension(read: Callable[[int, float], float], metric: str = "nc2_gram_frobenius"):
    def make(values):
        recorded = []
        for cell in CELLS["feature_dimension"]:
            if cell.seed < len(values):
                rows = {(*NOISY, metric, 300): read(cell.feature_dim, values[cell.seed])}
                rows |= {(*NOISY, metric, 100): DECOY, (*TRAIN, metric, 300): DECOY}
                recorded.append((cell, rows))
        return table(recorded)

    return make


def pair(width: int, layer: str, read: Callable[[float], dict[int, float]], at_1: float = DECOY):
    def make(values):
        recorded = []
        for cell in CELLS["representations"]:
            if cell.seed >= len(values):
                continue
            by_epoch = read(values[cell.seed]) if cell.width == width else {0: DECOY, 300: DECOY}
            rows = {}
            for split, metric in (("train", "cka_linear_debiased"), ("test", "cka_linear")):
                rows |= {(split, "none", layer, metric, e): DECOY for e in (0, 1, 300)}
            judged_on = ("test", "none", layer, "cka_linear_debiased")
            rows |= {(*judged_on, 1): at_1} | {(*judged_on, e): value for e, value in by_epoch.items()}
            recorded.append((cell, rows))
        return table(recorded)

    return make


def correlated_from_4(metric):
    """Mean curves whose Spearman correlation with the error over the widths is v in every configuration."""

    def change(m, a, o, w, v):
        return correlated("nc1_trace_ratio_weighted", a, o, w, v) if m == metric else None

    return by_width(change)


def ten_widths(m, a, o, w, v):
    """Spearman over the ten widths from 4 on is v: 1 - 6 sum d^2 / 990."""
    if m != "nc1_trace_ratio_weighted":
        return None
    swaps = {1.0: (), 0.903: ((0, 6), (9, 9)), 0.891: ((0, 6), (7, 8), (5, 9)), 0.6: ((0, 9),)}[v]
    return permuted(w, swaps)


def permuted(w, swaps):
    """Ranks of the error, less those at swapped places in the order of ranks."""
    ranked = sorted(PEAKED, key=lambda width: (PEAKED[width], width))
    order = {width: float(i) for i, width in enumerate(ranked)}
    for i, j in swaps:
        order[ranked[i]], order[ranked[j]] = order[ranked[j]], order[ranked[i]]
    return 1 + order[w]


def control(grid: str, make_rows: Callable[[object, float], dict | None], others: tuple[str, ...] = ()):
    """Runs of one grid, and of `others` that a claim also reads: `make_rows(cell, v)`, or None to leave one out."""

    def make(values):
        recorded = {}
        for cell in (c for name in (grid, *others) for c in CELLS[name]):
            if cell.seed < len(values) and cell.noise_seed == cell.seed:
                rows = make_rows(cell, values[cell.seed])
                if rows is not None:
                    recorded[cell] = {(*key[:-1], 1): DECOY for key in rows} | rows
        return table(list(recorded.items()))

    return make


def factors(metric, where, read: Callable[[object, float], float]):
    """The 2 x 2 x 2 (and AdamW) of CNN1D at width 64; ResNet1D must not be read."""

    def rows(cell, v):
        return {(*where, metric, 300): read(cell, v) if cell.architecture == "cnn1d" else DECOY}

    return control("optimizers", rows)


def of_sgd(size: Callable[[float], float], others: float = 0.3):
    """A value that SGD moves by `size`, the schedule by `others` and the decay by less."""

    def read(cell, v):
        if cell.optimizer == "adamw":
            return DECOY
        moved = size(v) * (cell.optimizer == "sgd")
        return 5 + moved + others * (cell.schedule == "cosine") - 0.1 * (cell.weight_decay == 5e-4)

    return read


def varied(parameter: str, read: Callable[[object, float], float], metric="error", where=FRESH):
    """CNN1D under Adam over one varied thing and widths, the study's own value from the model-wise grid."""

    def rows(cell, v):
        if (cell.architecture, cell.optimizer) != ("cnn1d", "adam"):
            return {(*where, metric, cell.epochs): DECOY}
        value = read(cell, v) if cell.width in nakkiran2020.WIDTHS else DECOY
        return {(*where, metric, cell.epochs): value}

    return control(parameter, rows, ("model_wise",))


SIZES = (1000, 2000, 4000, 8000)


def peak_of_n(cell, v):
    """With v = 1 the peak is at widths 8, 12, 16, 24 for 1000 ... 8000 samples, with v = -1 the other way round."""
    order = (8, 12, 16, 24) if v > 0 else (24, 16, 12, 8) if v < 0 else (12, 12, 12, 12)
    return 0.5 if cell.width == order[SIZES.index(cell.train_size)] else 0.3


def threshold_of_n(cell, v):
    order = (8, 12, 16, 24) if v > 0 else (24, 16, 12, 8) if v < 0 else (12, 12, 12, 12)
    return 0.1 if cell.width >= order[SIZES.index(cell.train_size)] else 0.11


def noise_peak(cell, v):
    """A peak at width 16 of height 0.1 without noise and 0.1 + v at 40 %."""
    height = {0.0: 0.1, 0.4: 0.1 + v}.get(cell.label_noise, 0.05)
    return {4: 0.4, 6: 0.3, 16: 0.3 + height}.get(cell.width, 0.3)


def over_time(
    width: int, error: Callable[[int, float], float], layer: str = "features", metric="error", where=FRESH
):
    """Experiment 2 at one width: a value at every epoch, at the weights or their average; the other is 0.1."""

    def rows(cell, v):
        mine = cell.width == width and cell.schedule == "constant"
        found = {}
        for e in (0, 1, 3, 5, 10, 20, 30, 49, 60, 100, 150, 250, 300, 600, cell.epochs):
            if e > cell.epochs:
                continue
            for at in ("features", "averaged"):
                plain = 0.1 if mine and e else DECOY
                found[*where[:2], at, metric, e] = error(e, v) if mine and e and at == layer else plain
        return found

    def make(values):
        mine = [cell for cell in CELLS["epoch_wise"] if cell.seed < len(values)]
        return table([(cell, rows(cell, values[cell.seed])) for cell in mine])

    return make


def every_dimension(read: Callable[[object, float], float], metric="nc2_gram_frobenius", labels="noisy"):
    """Experiment 3 with no dimension left out; what is not under the study's own settings is not to be read."""

    def make(values):
        recorded = []
        for cell in CELLS["feature_dimension_all"]:
            if cell.seed < len(values):
                where = ("train", labels, "features", metric)
                recorded.append((cell, {(*where, 1): DECOY, (*where, 300): read(cell, values[cell.seed])}))
        return table(recorded)

    return make


def study_settings(read, otherwise=DECOY):
    def value(cell, v):
        own = (cell.schedule, cell.projector, cell.weight_decay) == ("constant", True, 5e-4)
        own = own and cell.feature_dim <= 16
        return read(cell.feature_dim, v) if own else otherwise

    return value


def step_at(d, v):
    """One step at d = v, or at 9 where v is nothing of the kind."""
    return 5.0 - 4.0 * (d >= v)


def softmax_code(cell, v):
    best = {2: 1 - math.cos(math.pi / 5)}.get(cell.feature_dim, 1.0)
    mine = cell.schedule == "cosine" and cell.projector and cell.feature_dim in (2, 5, 6, 7, 8)
    return (v if cell.feature_dim == 6 else 0.99) * best if mine else DECOY


def of_a(metric):
    """Network A on noisy training labels, at the end; B and the true labels are not to be read."""

    def make(values):
        recorded = []
        for cell in CELLS["representations"]:
            if cell.seed < len(values):
                v = values[cell.seed] if cell.width == 32 else DECOY
                rows = {("train", "noisy", "A", metric, 300): v, ("train", "noisy", "A", metric, 1): DECOY}
                rows |= {
                    ("train", "noisy", "B", metric, 300): DECOY,
                    ("train", "clean", "A", metric, 300): DECOY,
                }
                recorded.append((cell, rows))
        return table(recorded)

    return make


def drifting(values):
    """Similarity to epoch 1 at 3, 10, 30, 100 and the end, and NC1 whose ranks correlate with it at v from 10 on."""
    recorded = []
    for cell in CELLS["representations"]:
        if cell.seed < len(values):
            ranks = {1.0: (4, 3, 2, 1), 0.8: (4, 3, 1, 2), 0.4: (4, 2, 1, 3), -1.0: (1, 2, 3, 4)}
            order = ranks[values[cell.seed]] if cell.width == 32 else (1, 1, 1, 1)
            rows = {}
            for e, cka, nc1 in zip((10, 30, 100, 300), (0.8, 0.6, 0.4, 0.2), order, strict=True):
                rows[*SIMILAR, e] = cka
                rows["train", "noisy", "A", "nc1_trace_ratio", e] = float(nc1)
            rows |= {(*SIMILAR, 3): 0.9, ("train", "noisy", "A", "nc1_trace_ratio", 3): 0.1}
            recorded.append((cell, rows))
    return table(recorded)


SIMILAR = ("test", "none", "features@1|features", "cka_linear_debiased")


def aligned_pair(width, read):
    """CKA before and after the best rotation."""

    def make(values):
        recorded = []
        for cell in CELLS["representations"]:
            if cell.seed < len(values):
                before, after = read(values[cell.seed]) if cell.width == width else (DECOY, DECOY)
                where = ("test", "none", "features|features")
                rows = {
                    (*where, "cka_linear_debiased", 300): before,
                    (*where, "cka_linear_aligned", 300): after,
                }
                recorded.append((cell, rows | {(*k[:-1], 1): DECOY for k in rows}))
        return table(recorded)

    return make


@dataclass(frozen=True)
class Case:
    make: Callable[[list[float]], pd.DataFrame]
    metric: str
    inside: float | None = None
    """A value just within the threshold, where 1 % of it cannot be had."""
    outside: float | None = None
    apart: tuple[float, ...] = ()
    """Three seeds' values whose interval straddles the threshold."""


ORIGIN = ("train", "clean", "origin", "curvature")
ALL = ("train", "clean", "all")


def still_falls(metric: str, cells: Sequence) -> Callable[[list[float]], pd.DataFrame]:
    """Measured twice in the second half of the terminal phase, from epoch 10 on, and just before that half."""

    def make(values):
        recorded = []
        for cell, v in zip(cells, values, strict=False):
            last = cell.epochs
            middle = (9 + last) // 2
            rows = {(*TRAIN, "error", e): x for e, x in {1: 0.5, 10: 0.0, middle: 0.0, last: 0.0}.items()}
            rows |= {(*TRAIN, metric, e): DECOY for e in (1, 10, middle)}
            rows |= {(*TRAIN, metric, middle + 1): 2.0, (*TRAIN, metric, last): 2.0 * v}
            recorded.append((cell, rows))
        return table(recorded)

    return make


def of_papyan(prefix: str, cells: Sequence) -> dict[str, Case]:
    """What Papyan et al. (2020) say of every network, on runs of one."""
    fall = {
        "loss": "loss", "nc1": "nc1_pinv", "nc1-trace": "nc1_trace_ratio",
        "nc2-equinorm-means": "nc2_norm_cv_means", "nc2-equinorm-classifiers": "nc2_norm_cv_weights",
        "nc2-equiangular": "nc2_cos_std_means", "nc2-equiangular-classifiers": "nc2_cos_std_weights",
        "nc2-max-angle": "nc2_cos_dev_means", "nc2-max-angle-classifiers": "nc2_cos_dev_weights",
        "nc3": "nc3_frobenius",
    }  # fmt: skip
    end = {
        "nc1-reached": "nc1_trace_ratio",
        "nc2-reached": "nc2_etf_means", "nc2-reached-classifiers": "nc2_etf_weights",
        "nc3-reached": "nc3_frobenius", "nc4": "nc4_mismatch",
    }  # fmt: skip
    cases = {
        **{name: Case(falls(metric, cells), metric) for name, metric in fall.items()},
        **{name: Case(at_end(metric, cells), metric) for name, metric in end.items()},
        "generalisation": Case(rises("error", cells), "error"),
        "robustness": Case(robust(cells=cells), "deepfool_relative_mean"),
        "loss-late": Case(still_falls("loss", cells), "loss"),
        "stays-fitted": Case(
            terminal(
                {
                    (*TRAIN, "error"): lambda v: {10: 0.0, 50: v, 75: v / 2},
                    (*TRAIN, "loss"): lambda v: {75: 1.0},
                },
                cells,
            ),
            "error",
        ),
    }
    return {f"{prefix}-{name}": case for name, case in cases.items()}


def of_han(prefix: str, cells: Sequence) -> dict[str, Case]:
    """What Han et al. (2022) say of squared error, on runs of one length."""
    parts = {
        (*TRAIN, "mse_perp"): lambda v: {10: DECOY, 75: 4.0 * v},
        (*TRAIN, "mse_nc1"): lambda v: {10: DECOY, 75: 3.0},
        (*TRAIN, "mse_nc23"): lambda v: {10: DECOY, 75: 1.0},
    }
    cases = {
        "mse-nc1": Case(falls("nc1_pinv", cells), "nc1_pinv"),
        "mse-nc2": Case(falls("nc2_cos_dev_means", cells), "nc2_cos_dev_means"),
        "mse-nc3": Case(falls("nc3_frobenius", cells), "nc3_frobenius"),
        "central-path": Case(terminal(parts, cells), "mse_perp"),
        "equal-snr": Case(
            terminal({(*TRAIN, "snr_spread"): lambda v: {10: 3.0, 75: 1 + 2.0 * v}}, cells), "snr_spread"
        ),
    }
    return {f"{prefix}-{name}": case for name, case in cases.items()}


def on_networks(place: str, epochs: int, widths: Sequence[int]) -> dict[str, Case]:
    """What Zhu et al. (2021) say of trained networks, at one of the two places."""
    plain = cells_like(place)
    adamw = cells_like(place, optimizer="adamw", lr=1e-3)
    adam = cells_like(place, optimizer="adam", lr=1e-3)
    lbfgs = cells_like(place, optimizer="lbfgs", lr=0.1, batch_size=2048, epochs=epochs, precision="float32")
    peeled = cells_like(place, decayed="last_layer", feature_decay=5e-3)
    etf, narrow = cells_like(place, classifier="etf"), cells_like(place, classifier="etf", feature_dim=10)
    error = (*TEST, "error")

    def collapse(worst: str, cells: Sequence) -> Case:
        read = {(*TRAIN, name): (lambda v, name=name: v if name == worst else v / 2) for name in COLLAPSE}
        return Case(ended(read, cells), worst)

    def alike(worst: str, *groups: Sequence) -> Case:
        read = {
            (*TRAIN, name): (lambda v, name=name: 0.1 * v if name == worst else 0.01) for name in COLLAPSE
        }
        return Case(ended(read, *groups), worst)

    def cancels(cells: Sequence) -> Case:
        return Case(ended({(*TRAIN, "bias_collapse"): float}, cells), "bias_collapse")

    def over(cells: Sequence, **collapse: float) -> Case:
        read = {(*TRAIN, name): (lambda v, at=at: at) for name, at in collapse.items()}
        return Case(ended({error: lambda v: 0.1 + v} | read, cells, plain), "error")

    cases = {
        "sgd-collapses": collapse("nc1_pinv", plain),
        "adam-collapses": collapse("nc2_etf_weights", adam),
        "lbfgs-collapses": collapse("nc3_etf", lbfgs),
        "optimizers-collapse-alike": alike("nc1_pinv", lbfgs, plain, adam),
        "optimizers-test-apart": over(adam),
        "collapsed-optimizers-differ": over(adam, **dict.fromkeys(COLLAPSE, 0.1)),
        "last-layer-decay-collapses": collapse("nc1_pinv", peeled),
        "last-layer-decay-collapses-alike": alike("nc3_etf", peeled, plain),
        "last-layer-decay-error": over(peeled),
        "last-layer-decay-minimum": Case(ended({(*ALL, "objective_gap"): float}, peeled), "objective_gap"),
        "random-labels-widths": Case(memorised(place, widths), "nc1_pinv", 1.0, 0.5, (1.0, 0.5, 1.0)),
        "fixed-etf-error": over(etf),
        "fixed-etf-narrow-error": over(narrow),
        "fixed-etf-narrow-collapses": collapse("nc3_etf", narrow),
        **{
            f"random-labels-{name}-as-true": Case(as_true(metric, place, widths[-1]), metric)
            for name, metric in zip(("nc1", "nc2", "nc3"), COLLAPSE, strict=True)
        },
        "bias-collapses": cancels(plain),
        "adam-bias-collapses": cancels(adam),
        "adamw-bias-collapses": cancels(adamw),
        "lbfgs-bias-collapses": cancels(lbfgs),
    }
    return {f"zhu2021-{place}-{name}": case for name, case in cases.items()}


CASES = {
    **of_papyan("papyan2020", CELLS["terminal_phase"]),
    **of_papyan("papyan2020-vgg11", small(architecture="vgg11", attacked=500)),
    **of_papyan("papyan2020-densenet40", small(architecture="densenet40", width=4, attacked=500)),
    **of_papyan("papyan2020-notebook-rate", CELLS["terminal_phase_full_notebook_rate"]),
    "hui2022-strong": Case(falls("test_collapse_strong", where=TEST), "test_collapse_strong"),
    "hui2022-strong-beside-training": Case(
        terminal(
            {
                (*TEST, "test_collapse_strong"): lambda v: {10: 2.0, 75: v},
                (*TRAIN, "nc1_trace_ratio"): lambda v: {10: 2.0, 75: 1.0},
            }
        ),
        "test_collapse_strong",
    ),
    "hui2022-weak": Case(falls("test_collapse_weak", where=TEST), "test_collapse_weak"),
    **of_han("han2022", small(loss="mse")),
    **of_han("han2022-long", CELLS["terminal_phase_squared_error"]),
    "nguyen2023-training": Case(
        paired("nc1_trace_ratio", small(label_noise=0.2), small(), NOISY, TRAIN), "nc1_trace_ratio"
    ),
    "nguyen2023-test": Case(paired("cdnv", small(label_noise=0.2), small(), TEST), "cdnv"),
    "zhu2021-random-labels": Case(at_end("nc1_pinv", small(label_noise=1.0), NOISY), "nc1_pinv"),
    "zhao2026-adamw-row-sum": Case(
        ended({(*WHOLE, "nc0_row_sum"): float}, ADAMW),
        "nc0_row_sum",
    ),
    "zhao2026-sgd-nc1-left": Case(paired("nc1_pinv", small(), UNTRAINED), "nc1_pinv"),
    "zhao2026-sgd-nc2-left": Case(paired("nc2_etf_weights", small(), UNTRAINED), "nc2_etf_weights"),
    "zhao2026-sgd-nc3-left": Case(paired("nc3_frobenius", small(), UNTRAINED), "nc3_frobenius"),
    "zhao2026-adam-row-sum": Case(paired("nc0_row_sum", ADAM, small(), WHOLE), "nc0_row_sum"),
    "zhao2026-adamw-nc1": Case(paired("nc1_pinv", ADAMW, small()), "nc1_pinv"),
    "zhao2026-adamw-nc2": Case(paired("nc2_etf_weights", ADAMW, small()), "nc2_etf_weights"),
    "zhao2026-adamw-nc3": Case(paired("nc3_frobenius", ADAMW, small()), "nc3_frobenius"),
    **{
        f"zhao2026-adamw-matched-{name}": Case(
            paired(metric, CELLS["terminal_phase_decoupled"], small()), metric
        )
        for name, metric in (("nc1", "nc1_pinv"), ("nc2", "nc2_etf_weights"), ("nc3", "nc3_frobenius"))
    },
    "zhao2026-decay-row-sum": Case(paired("nc0_row_sum", MUCH, NONE, WHOLE), "nc0_row_sum"),
    "zhao2026-decay-nc2": Case(paired("nc2_etf_weights", MUCH, NONE), "nc2_etf_weights"),
    "zhao2026-decay-nc3": Case(paired("nc3_frobenius", MUCH, NONE), "nc3_frobenius"),
    "galanti2022-test-variability": Case(
        terminal(
            {(*TEST, "cdnv"): lambda v: {10: DECOY, 75: 0.3 * v}, (*TRAIN, "cdnv"): lambda v: {75: 0.3}}
        ),
        "cdnv",
    ),
    **on_networks("fashion-mnist", 15, (2, 4, 8, 16)),
    **on_networks("mnist1d", 60, (8, 16, 32, 64, 128, 256)),
    "zhu2021-mnist1d-random-labels-widths-source": Case(
        memorised("mnist1d", (8, 16, 32, 64, 128, 256), lr=0.01, batch_size=64, weight_decay=1e-4, depth=6),
        "nc1_pinv",
        1.0,
        0.5,
        (1.0, 0.5, 1.0),
    ),
    "zhu2021-value": Case(free((*ALL, "objective_gap")), "objective_gap"),
    "zhu2021-certificate": Case(free((*ALL, "certificate"), lambda v: 1 + v), "certificate"),
    "zhu2021-nc1": Case(free((*TRAIN, "nc1_pinv")), "nc1_pinv"),
    "zhu2021-nc2": Case(free((*TRAIN, "nc2_etf_weights")), "nc2_etf_weights"),
    "zhu2021-nc3": Case(free((*ALL, "self_duality")), "self_duality"),
    "zhu2021-bias": Case(free((*ALL, "bias_spread")), "bias_spread"),
    "zhu2021-strict-saddle": Case(free(ORIGIN, epoch=0), "curvature"),
    "zhu2021-threshold": Case(free((*ALL, "weight_norm_squared"), beyond=True), "weight_norm_squared"),
    "zhu2021-random-starts": Case(
        from_starts("objective_gap_max", ("gd", "sgd", "adam", "lbfgs")), "objective_gap_max"
    ),
    "zhu2021-no-other-minimum": Case(
        from_starts("other_minima", ("gd", "sgd", "adam", "lbfgs", "gradient_norm")), "other_minima"
    ),
    "bardazzi2026-peak": Case(at("error", 16, lambda v: 0.4), "error"),
    "bardazzi2026-peak-range": Case(by_width(in_range), "error", 1.0, 0.75, (1.0, 1.0, 0.75)),
    "bardazzi2026-memorisation": Case(at("memorised", 16, lambda v: 0.02), "error"),
    "bardazzi2026-nc1-correlation": Case(
        by_width(correlated), "nc1_trace_ratio_weighted", 0.909, 0.891, (1.0, 0.909, 0.6)
    ),
    "bardazzi2026-nc1-explodes": Case(
        at("nc1_trace_ratio_weighted", 16, lambda v: 9.0), "nc1_trace_ratio_weighted"
    ),
    "bardazzi2026-nc1-restored": Case(
        at("nc1_trace_ratio_weighted", 64, lambda v: 0.5 * v), "nc1_trace_ratio_weighted"
    ),
    "bardazzi2026-nc1-two-orders": Case(
        at("nc1_trace_ratio_weighted", 64, lambda v: 1e-3), "nc1_trace_ratio_weighted"
    ),
    "bardazzi2026-nc4-zero": Case(at("nc4_mismatch", 64, lambda v: 0.5 * v), "nc4_mismatch"),
    "bardazzi2026-sgd-nc2": Case(sgd_against_adam("nc2_gram_frobenius"), "nc2_gram_frobenius"),
    "bardazzi2026-sgd-nc3": Case(sgd_against_adam("nc3_rows_uncentred"), "nc3_rows_uncentred"),
    "bardazzi2026-sgd-nc2-zero": Case(
        by_width(
            lambda m, a, o, w, v: (
                None if (m, o, w) != ("nc2_gram_frobenius", "sgd", 64) else v * (1 if a == "cnn1d" else 0.5)
            )
        ),
        "nc2_gram_frobenius",
    ),
    "bardazzi2026-resnet-adam-best": Case(by_width(best_is_resnet_adam), "error"),
    "bardazzi2026-span": Case(
        by_width(
            lambda m, a, o, w, v: 100 * 10**v if (m, a, w) == ("parameters", "cnn1d", 64) else None,
        ),
        "parameters",
    ),
    "bardazzi2026-peak-at-12": Case(by_width(peak_at), "error", 1.0, 0.0, (1.0, 1.0, 0.0)),
    "bardazzi2026-sgd-smoother": Case(by_width(rough), "error"),
    "bardazzi2026-nc-destroyed-rebuilt": Case(
        at("nc1_trace_ratio_weighted", 16, lambda v: 9.0), "nc1_trace_ratio_weighted"
    ),
    "bardazzi2026-sgd-nc3-zero": Case(
        at_64("nc3_rows_uncentred", lambda c, v: {"cnn1d/sgd": v, "resnet1d/sgd": 0.5 * v}.get(c)),
        "nc3_rows_uncentred",
    ),
    "bardazzi2026-adam-worse-minima": Case(
        at_64(
            "nc1_trace_ratio_weighted",
            lambda c, v: {"resnet1d/adam": 1 + v, "cnn1d/adam": 1.5 + v}.get(c, 1.0),
        ),
        "nc1_trace_ratio_weighted",
    ),
    "bardazzi2026-sgd-norm-bias": Case(
        at_64("parameter_norm", lambda c, v: {"resnet1d/sgd": 6 + v, "cnn1d/sgd": 5.5 + v}.get(c)),
        "parameter_norm",
    ),
    "bardazzi2026-cnn-sgd-worst": Case(
        at_64("error", lambda c, v: {"cnn1d/sgd": 0.29 + v, "cnn1d/adam": 0.29}.get(c)), "error"
    ),
    "bardazzi2026-resnet-adam-cleanest": Case(
        at_64(
            "nc1_trace_ratio_weighted", lambda c, v: {"resnet1d/adam": 1 + v, "cnn1d/sgd": 1.0}.get(c, 1.5)
        ),
        "nc1_trace_ratio_weighted",
    ),
    "bardazzi2026-resnet-adam-nc3-lower": Case(
        at_64("nc3_rows_uncentred", lambda c, v: {"resnet1d/adam": 1 + v, "cnn1d/sgd": 1.0}.get(c)),
        "nc3_rows_uncentred",
    ),
    "bardazzi2026-nc2-zero-at-9": Case(by_dimension(lambda d, v: v if d == 9 else 2.0), "nc2_gram_frobenius"),
    "bardazzi2026-nc2-drop-at-9": Case(
        by_dimension(lambda d, v: 5 - 0.1 * d - v * (d >= 9)), "nc2_gram_frobenius"
    ),
    "bardazzi2026-cka-stem-shared": Case(
        pair(8, "stem|stem", lambda v: {0: 0.5, 300: 0.5 + v}), "cka_linear_debiased"
    ),
    "bardazzi2026-cka-deep-differ": Case(
        pair(8, "features|features", lambda v: {300: v}), "cka_linear_debiased"
    ),
    "bardazzi2026-cka-stem-converges": Case(
        pair(32, "stem@1|stem", lambda v: {300: v}), "cka_linear_debiased"
    ),
    "bardazzi2026-cka-deep-drifts": Case(
        pair(32, "features@1|features", lambda v: {300: v}), "cka_linear_debiased"
    ),
    "bardazzi2026-cka-stem-seeds": Case(
        pair(32, "stem|stem", lambda v: {0: 0.5, 300: 0.5 + v}), "cka_linear_debiased"
    ),
    "bardazzi2026-cka-features-seeds": Case(
        pair(32, "features|features", lambda v: {300: v}), "cka_linear_debiased"
    ),
}
CASES |= {
    f"bardazzi2026-{name}": case
    for name, case in {
        "peak-at-8": Case(
            by_width(
                lambda m, a, o, w, v: (
                    0.5 if m == "error" and w == 8 and v == 1 and (a, o) == ("resnet1d", "adam") else None
                )
            ),
            "error", 1.0, 0.0, (1.0, 1.0, 0.0),
        ),
        "nc3-without-duality": Case(
            at_64("nc3_cosine", lambda c, v: v**2 / 20 if c == "cnn1d/sgd" else 1.5 * v**2 / 20), "nc3_cosine"
        ),
        "nc1-correlation-from-4": Case(by_width(ten_widths), "nc1_trace_ratio_weighted", 1.0, 0.6, (1.0, 1.0, 0.6)),
        "nc2-correlation": Case(
            correlated_from_4("nc2_gram_frobenius"), "nc2_gram_frobenius", 0.909, 0.891, (1.0, 0.909, 0.6)
        ),
        "nc3-correlation": Case(
            correlated_from_4("nc3_rows_uncentred"), "nc3_rows_uncentred", 0.909, 0.891, (1.0, 0.909, 0.6)
        ),
        "nc4-correlation": Case(correlated_from_4("nc4_mismatch"), "nc4_mismatch", 0.909, 0.891, (1.0, 0.909, 0.6)),
        "nc1-correlation-partial": Case(
            by_width(partly), "nc1_trace_ratio_weighted", 1.0, -1.0, (1.0, 1.0, -1.0)
        ),
        "sgd-nc2-matched": Case(
            factors("nc2_gram_frobenius", NOISY, of_sgd(lambda v: v)), "nc2_gram_frobenius"
        ),
        "adam-worse-minima-matched": Case(
            factors("nc1_trace_ratio_weighted", NOISY, of_sgd(lambda v: -v)), "nc1_trace_ratio_weighted"
        ),
        "sgd-norm-bias-matched": Case(
            factors("parameter_norm", WHOLE, of_sgd(lambda v: v)), "parameter_norm"
        ),
        "optimizer-decisive": Case(
            factors("nc2_gram_frobenius", NOISY, of_sgd(lambda v: -0.3 - v)), "nc2_gram_frobenius"
        ),
        "nc2-floor-is-noise": Case(
            varied("label_noise", lambda c, v: v if (c.label_noise, c.width) == (0.0, 64) else DECOY,
                   "nc2_gram_frobenius", NOISY),
            "nc2_gram_frobenius",
        ),
        "nc3-plateau-is-noise": Case(
            varied("label_noise", lambda c, v: v if (c.label_noise, c.width) == (0.0, 64) else DECOY,
                   "nc3_rows_uncentred", NOISY),
            "nc3_rows_uncentred",
        ),
        "critical-fluctuates": Case(over_time(12, lambda e, v: 0.1 + v * (e == 300)), "error"),
        "critical-stabilises": Case(
            over_time(12, lambda e, v: {300: 0.2, 3000: 0.2 + v}.get(e, 0.3), "averaged"), "error"
        ),
        "large-monotone": Case(
            over_time(
                64,
                lambda e, v: {1: 0.5, 3: 0.3, 60: 0.9, 600: 0.2 + v}.get(e, 0.25 if e < 300 else 0.2),
            ),
            "error",
        ),
        "large-bump": Case(over_time(64, lambda e, v: {1: 0.5, 100: 0.3 + v}.get(e, 0.3)), "error"),
        "large-nc1-collapses": Case(
            over_time(64, lambda e, v: v if e == 1000 else 2.0, metric="nc1_trace_ratio_weighted", where=NOISY),
            "nc1_trace_ratio_weighted",
        ),
        "nc2-changepoint-at-9": Case(
            every_dimension(study_settings(step_at)), "nc2_gram_frobenius", 9, 10, (9, 9, 10)
        ),
        "nc2-knee": Case(by_dimension(lambda d, v: v if d == 9 else 2.0), "nc2_gram_frobenius"),
        "nc1-peak-at-9": Case(
            by_dimension(lambda d, v: {9: 0.5 * v, 8: 0.5, 10: 0.4}.get(d, 2.0), "nc1_trace_ratio_weighted"),
            "nc1_trace_ratio_weighted",
        ),
        "cka-invariant": Case(aligned_pair(32, lambda v: (0.6, 0.6 - v)), "cka_linear_aligned"),
        "cka-block1-shared": Case(
            pair(8, "block1|block1", lambda v: {0: 0.5, 300: 0.5 + v}), "cka_linear_debiased"
        ),
        "cka-deep-opposed": Case(pair(8, "features|features", lambda v: {300: v}), "cka_linear_debiased"),
        "cka-dimension-explains": Case(
            pair(8, "features|features", lambda v: {300: v}), "cka_linear_debiased"
        ),
        "cka-deep-drifts-on": Case(
            pair(32, "features@1|features", lambda v: {100: 0.5, 300: 0.5 + v}, at_1=1.0), "cka_linear_debiased"
        ),
        "cka-drift-at-zero-loss": Case(of_a("loss"), "loss"),
        "cka-drift-is-compression": Case(drifting, "nc1_trace_ratio", 0.8, -1.0, (1.0, 0.4, 0.8)),
        "cka-seeds-rotations": Case(aligned_pair(32, lambda v: (0.6, v)), "cka_linear_aligned"),
        "margins-maximised": Case(of_a("margin_min"), "margin_min"),
    }.items()
}  # fmt: skip
CASES |= {
    "nakkiran2020-peak-moves": Case(varied("train_size", peak_of_n), "error", 1.0, -1.0, (1.0, 0.0, 1.0)),
    "nakkiran2020-threshold-moves": Case(
        varied("train_size", threshold_of_n, where=NOISY), "error", 1.0, -1.0, (1.0, 0.0, 1.0)
    ),
    "nakkiran2020-noise-raises-peak": Case(varied("label_noise", noise_peak), "error"),
    "nakkiran2020-large-epoch-wise": Case(
        over_time(64, lambda e, v: {1: 0.5, 3: 0.4, 5: 0.2, 100: 0.25 + v}.get(e, 0.25 if e > 5 else 0.3), "averaged"),
        "error",
    ),
    "nakkiran2020-critical-u-curve": Case(
        over_time(12, lambda e, v: {60: 0.1, 3000: 0.1 + v}.get(e, 0.3), "averaged"), "error"
    ),
    "zhao2026-adamw-collapses-less": Case(
        factors(
            "nc1_trace_ratio_weighted", NOISY,
            lambda c, v: {"adamw": 1 + v, "adam": 1.0}.get(c.optimizer, DECOY),
        ),
        "nc1_trace_ratio_weighted",
    ),
    "jiang2023-softmax-code": Case(
        every_dimension(softmax_code, "one_vs_rest_margin_weights", "none"), "one_vs_rest_margin_weights"
    ),
}  # fmt: skip
CASES |= {name: Case(theorem(*read), "violation_max") for name, read in THEOREMS.items()}
# How the number of a claim becomes the value that `make` puts into the table, where the two differ.
VALUE_OF = {
    "bardazzi2026-peak": lambda x: 0.3 + x,
    "bardazzi2026-memorisation": lambda x: 1 - x,
    "bardazzi2026-nc1-explodes": lambda x: 0.9 * x,  # over NC1 at width 8
    "bardazzi2026-nc-destroyed-rebuilt": lambda x: 0.9 * x,
    "bardazzi2026-nc1-two-orders": lambda x: 1.8 / x,  # of NC1 at width 2
}
each_claim = pytest.mark.parametrize("claim", claims.ALL, ids=lambda claim: claim.id)


def bounds(claim) -> list[tuple[str, float]]:
    """The thresholds as the predicate words them: every side that is to be kept."""
    two = re.fullmatch(r"between (\S+) and (\S+)", claim.predicate)
    if two:
        return [("above", float(two[1])), ("below", float(two[2]))]
    side, number = re.fullmatch(r"(above|below) (\S+)", claim.predicate).groups()
    return [(side, float(number))]


def just(side: str, threshold: float, inside: bool) -> float:
    """A number 1 % (of 0: 0.01) beside the threshold."""
    step = 0.01 * (abs(threshold) or 1)
    return threshold + step * (1 if (side == "above") == inside else -1)


def numbers(claim, inside: bool, side_index: int = 0) -> list[float]:
    """Three seeds' values for `make`, close together, just within or just outside the written threshold."""
    case = CASES[claim.id]
    if case.inside is not None:
        return [case.inside if inside else case.outside] * 3
    x = just(*bounds(claim)[side_index], inside)
    return [VALUE_OF.get(claim.id, float)(x * (1 + 1e-5 * i)) for i in (-1, 0, 1)]


@cache
def supported(claim) -> pd.DataFrame:
    """A table on which the claim stands: shared by tests, so copy it to change it."""
    made = CASES[claim.id].make(numbers(claim, inside=True))
    assert claim.judge(made).status == "supported"
    return made


# The registry


def test_ids_are_permanent_unique_and_of_one_form():
    ids = [claim.id for claim in claims.ALL]
    assert len(set(ids)) == len(ids) >= 15
    assert set(ids) == set(CASES), "a claim without a made-up table is a claim nobody has tested"
    for claim in claims.ALL:
        assert re.fullmatch(r"[a-z]+\d{4}(-[a-z0-9]+)+", claim.id)
        assert claim.id.startswith(claim.source + "-")
        assert claims.get(claim.id) is claim
    with pytest.raises(KeyError, match="no claim is called 'nc1'"):
        claims.get("nc1")
    assert {claim.source for claim in claims.ALL} >= {"papyan2020", "zhu2021", "bardazzi2026"}


@each_claim
def test_a_claim_says_what_where_and_how_it_is_judged(claim):
    for text in (claim.statement, claim.place, claim.measure, claim.predicate):
        assert text.strip() == text != ""
    assert claim.statement.endswith(".")
    assert claim.registered in ("before", "after")
    assert claim.study in {study for study, _ in grids.published().values()}


@each_claim
def test_a_claims_source_and_page_are_in_the_book(claim):
    bibliography = (runs.ROOT / "book" / "references.bib").read_text()
    assert re.search(rf"^@\w+{{{claim.source},", bibliography, re.MULTILINE)
    chapters = yaml.safe_load((runs.ROOT / "_toc.yml").read_text())["parts"]
    files = [chapter["file"] for part in chapters for chapter in part["chapters"]]
    assert f"notebooks/{claim.page}" in files


# Both ways, at the threshold that is written down


@each_claim
def test_the_written_threshold_is_the_one_that_decides(claim):
    case = CASES[claim.id]
    for index, _ in enumerate(bounds(claim)):
        kept, broken = (claim.judge(case.make(numbers(claim, inside, index))) for inside in (True, False))
        assert (kept.status, broken.status) == ("supported", "not supported")
        assert kept.n == broken.n >= 3
        assert kept.low <= kept.number <= kept.high
        if case.inside is None:
            side, threshold = bounds(claim)[index]
            assert kept.number == pytest.approx(
                just(side, threshold, True), rel=1e-3, abs=1e-4 * abs(threshold)
            )
            assert broken.number == pytest.approx(
                just(side, threshold, False), rel=1e-3, abs=1e-4 * abs(threshold)
            )


THEORY = ("unconstrained", "landscape", "statements")
WORST_OF_RUNS = [claim for claim in claims.ALL if claim.study in THEORY]
MEANS = [claim for claim in claims.ALL if claim.study not in THEORY]
WITH_INTERVAL = [claim for claim in MEANS if claim.id != "bardazzi2026-cka-invariant"]


@pytest.mark.parametrize("claim", WITH_INTERVAL, ids=lambda claim: claim.id)
def test_an_interval_that_straddles_the_threshold_decides_nothing(claim):
    case = CASES[claim.id]
    values = list(case.apart)
    if not values:
        for side, threshold in bounds(claim):
            inner, outer = just(side, threshold, True), just(side, threshold, False)
            values = [VALUE_OF.get(claim.id, float)(x) for x in (inner, threshold, outer)]
            assert claim.judge(case.make(values)).status == "inconclusive"
    verdict = claim.judge(case.make(values))
    assert verdict.status == "inconclusive"
    assert "straddles" in str(verdict)


@pytest.mark.parametrize("claim", WORST_OF_RUNS, ids=lambda claim: claim.id)
def test_a_statement_about_all_runs_falls_with_one_of_them(claim):
    inside, outside = numbers(claim, True)[1], numbers(claim, False)[1]
    make = CASES[claim.id].make
    seeds = 5 if claim.study == "unconstrained" and claim.id != "zhu2021-threshold" else 3
    kept, broken = claim.judge(make([inside] * seeds)), claim.judge(make([outside] + [inside] * (seeds - 1)))
    assert (kept.status, broken.status) == ("supported", "not supported")
    runs_judged = {"zhu2021-random-starts": 15, "zhu2021-no-other-minimum": 21}
    assert kept.n == broken.n == runs_judged.get(claim.id, 3 if seeds == 3 else 15)


def test_a_negative_deviation_counts_as_one():
    claim = claims.get("zhu2021-value")
    made = supported(claim)
    below = made.assign(value=made.value.where(made.value == DECOY, -1e-3))
    assert claim.judge(below).status == "not supported"


@pytest.mark.parametrize("dimension, status", [(8, "supported"), (11, "not supported")])
def test_a_run_without_room_for_the_simplex_is_no_evidence_about_its_minimum(dimension, status):
    claim = claims.get("zhu2021-value")
    made = supported(claim)
    one = made[(made.run == made.run.iloc[0])]
    assert (one.feature_dim > one.num_classes).all()
    other = one.assign(run="other", feature_dim=dimension, value=0.5)
    assert claim.judge(pd.concat([made, other])).status == status


# Wanting evidence decides nothing


@each_claim
def test_no_table_decides_nothing(claim):
    verdict = claim.judge(pd.DataFrame())
    assert verdict.status == "inconclusive"
    assert str(verdict) == "inconclusive: nothing recorded yet"
    assert verdict.number is None


@each_claim
def test_two_seeds_decide_nothing(claim):
    made = supported(claim)
    assert claim.judge(made[made.seed < 2]).status == "inconclusive"


def judged_rows(claim, made):
    """Mask of the rows that hold the number: of the claim's metric, and no decoys."""
    return (made.metric == CASES[claim.id].metric) & (made.value != DECOY)


@each_claim
def test_a_value_that_is_no_number_decides_nothing(claim):
    made = supported(claim)
    mine = judged_rows(claim, made)
    for bad in (math.nan, math.inf):
        for run in made[mine].run.unique()[1:3]:
            last = made[mine & (made.run == run)].epoch.max()
            hit = mine & (made.run == run) & (made.epoch == last)
            assert claim.judge(made.assign(value=made.value.mask(hit, bad))).status == "inconclusive"


@each_claim
def test_a_run_without_the_metric_decides_nothing(claim):
    made = supported(claim)
    mine = judged_rows(claim, made)
    for run in made[mine].run.unique()[1:3]:
        assert (
            claim.judge(made[~((made.metric == CASES[claim.id].metric) & (made.run == run))]).status
            == "inconclusive"
        )


@pytest.mark.parametrize(
    "claim",
    [
        c for c in claims.ALL if c.id != "zhu2021-strict-saddle" and c.study != "statements"
    ],  # those have no epochs
    ids=lambda c: c.id,
)
def test_a_run_that_stops_early_is_not_judged_by_its_last_epoch(claim):
    # The trap of groupby().last(): with the decoys put right, the run's last row would support the claim.
    made = supported(claim)
    ends = made.groupby("run").epochs.first()
    run = made[judged_rows(claim, made)].run.iloc[0]
    final = (made.run == run) & (made.epoch == ends[run])
    names = ["split", "labels", "layer", "metric"]
    earlier = made[final].assign(epoch=ends[run] - 1)
    stopped = pd.concat([made[~final], earlier], ignore_index=True)
    assert not stopped.duplicated(["run", "epoch", *names]).any()
    verdict = claim.judge(stopped)
    assert verdict.status == "inconclusive"
    assert "1 runs stop before their last epoch" in verdict.reason


@pytest.mark.parametrize("claim", MEANS, ids=lambda claim: claim.id)
def test_a_seed_that_is_there_twice_decides_nothing(claim):
    made = supported(claim)
    run = made[judged_rows(claim, made)].run.iloc[0]
    twice = pd.concat([made, made[made.run == run].assign(run="f" * 16)], ignore_index=True)
    verdict = claim.judge(twice)
    assert verdict.status == "inconclusive"
    assert "several runs" in verdict.reason


@pytest.mark.parametrize("claim", MEANS, ids=lambda claim: claim.id)
def test_runs_of_another_kind_are_not_evidence(claim):
    made = supported(claim)
    before = claim.judge(made)
    foreign = made.assign(run="f" + made.run.str[1:], lr=7.0, value=np.nan)
    assert claim.judge(pd.concat([made, foreign], ignore_index=True)) == before
    assert claim.judge(foreign).status == "inconclusive"


@pytest.mark.parametrize("claim", [c for c in MEANS if c.study == "terminal_phase"], ids=lambda c: c.id)
def test_a_run_that_never_reaches_zero_training_error_decides_nothing(claim):
    if claim.source in ("galanti2022", "nguyen2023", "zhao2026") or claim.id.endswith("central-path"):
        return  # about the last epoch, whatever the training error
    if claim.id.endswith(("-error", "-apart", "-minimum", "-widths", "-widths-source", "-as-true")):
        return
    made = supported(claim)
    run = made.run.iloc[0]
    error = (made.run == run) & (made.metric == "error") & (made.split == "train")
    for remedy in (made.assign(value=made.value.mask(error, 1e-4)), made[~error]):
        verdict = claim.judge(remedy)
        assert verdict.status == "inconclusive"
        assert "never reach training error 0" in verdict.reason


THROUGH_THE_PHASE = [c for c in MEANS if "first epoch of zero training error" in c.measure]


@pytest.mark.parametrize("claim", THROUGH_THE_PHASE, ids=lambda c: c.id)
def test_a_terminal_phase_of_no_length_decides_nothing(claim):
    made = supported(claim)
    early = (made.metric == "error") & (made.split == "train") & (made.epoch < 75)
    verdict = claim.judge(made.assign(value=made.value.mask(early & (made.run == made.run.iloc[0]), 1e-4)))
    assert verdict.status == "inconclusive"
    assert "1 runs first reach training error 0 at their last epoch" in verdict.reason


@pytest.mark.parametrize("claim", [c for c in MEANS if c.study == "mnist1d"], ids=lambda c: c.id)
def test_a_sweep_with_a_hole_decides_nothing(claim):
    made = supported(claim)
    evidence = made[judged_rows(claim, made)]
    for run in evidence.run.unique()[::60]:
        assert claim.judge(made[made.run != run]).status == "inconclusive"
    cell = evidence[evidence.run == evidence.run.iloc[0]]
    axis = "feature_dim" if claim.page == "33_feature_dimension" else "width"
    same = (made[axis] == cell[axis].iloc[0]) & (made.architecture == cell.architecture.iloc[0])
    assert claim.judge(made[~same]).status == "inconclusive"


def test_every_optimiser_must_have_run():
    claim = claims.get("zhu2021-value")
    made = supported(claim)
    for name in ("sgd", "adam", "lbfgs"):
        verdict = claim.judge(made[made.optimizer != name])
        assert verdict.status == "inconclusive"
        assert f"fewer than 3 runs of {name}" in verdict.reason
    assert "no runs below" in claim.judge(made[made.lambda_W == 0.03]).reason


def test_every_method_must_have_had_its_starts():
    claim = claims.get("zhu2021-random-starts")
    made = supported(claim)
    for name in ("gd", "sgd", "adam", "lbfgs"):
        of_method = made.method == name
        for few in (made[~of_method], made.assign(restarts=made.restarts.mask(of_method, 33))):
            verdict = claim.judge(few)
            assert verdict.status == "inconclusive"
            assert verdict.reason == f"fewer than 200 starts of {name}"
    # Beyond the threshold, or without a dimension to spare, the theorems say something else.
    for other in ({"lambda_W": 0.1, "lambda_H": 0.1}, {"feature_dim": 4}):
        assert claim.judge(made.assign(**other)).status == "inconclusive"


def test_a_search_that_finds_no_saddle_says_nothing_on_other_minima():
    claim = claims.get("zhu2021-no-other-minimum")
    made = supported(claim)
    hit = (made.metric == "saddles") & (made.method == "gradient_norm") & (made.num_classes == 5)
    verdict = claim.judge(made.assign(value=made.value.mask(hit, 0.0)))
    assert verdict.status == "inconclusive"
    assert "minima only" in verdict.reason
    assert "gradient_norm" in claim.judge(made[made.method != "gradient_norm"]).reason


@pytest.mark.parametrize("paper", PAPERS)
def test_every_statement_of_every_paper_is_judged_and_no_other(paper):
    generator = torch.Generator().manual_seed(0)
    stated = set(violations(paper, generator, instances=2 if paper == "zhu2021_descent" else 20))
    assert {name for of, *names in THEOREMS.values() if of == paper for name in names} == stated


@pytest.mark.parametrize("name", THEOREMS)
def test_a_theorem_falls_with_any_of_its_statements_and_on_too_few_instances(name):
    claim, (paper, *names) = claims.get(name), THEOREMS[name]
    made = supported(claim)
    for statement in names:
        hit = (made.layer == statement) & (made.paper == paper) & (made.seed == 1)
        assert claim.judge(made.assign(value=made.value.mask(hit, 2e-8))).status == "not supported"
        assert claim.judge(made[~hit]).status == "inconclusive"
    assert claim.judge(made.assign(instances=999)).status == "inconclusive"
    assert claim.judge(made[made.paper != paper]).status == "inconclusive"


def test_a_curvature_other_than_predicted_is_not_supported_and_says_so():
    claim = claims.get("zhu2021-strict-saddle")
    made = supported(claim)
    off = made.assign(value=made.value.mask(made.metric == "curvature_error", 2e-8))
    assert str(claim.judge(off)) == "not supported: the measured curvature is not the predicted one"


# Terminal phase in particular


def at_scale(value, seeds=3, **scale):
    """Runs of the main claim on NC1 with this value, as if they were of another scale."""
    made = falls("nc1_pinv")([value] * seeds)
    last = made.epoch.where(made.epoch < made.epochs, scale["epochs"])
    return made.assign(run=f"{scale['width']}x{scale['train_size']}-" + made.run, epoch=last, **scale)


@pytest.mark.parametrize(
    "judged",
    [
        *terminal_phase.SCALES,
        terminal_phase.SMALL,
        terminal_phase.NOTEBOOK_RATE,
        terminal_phase.PROTOCOL_SCALE | {"architecture": "vgg11"},
        terminal_phase.SMALL | {"architecture": "vgg11"},
        terminal_phase.PROTOCOL_SCALE | {"architecture": "densenet40", "width": 12},
        terminal_phase.SMALL | {"architecture": "densenet40", "width": 4},
    ],
    ids=str,
)
def test_some_grid_records_three_seeds_of_every_scale_that_is_judged(judged):
    wanted = terminal_phase.PROTOCOL | judged
    seeds = {
        cell.seed
        for study, cells in grids.published().values()
        for cell in cells
        if study == "terminal_phase" and wanted.items() <= every_parameter(cell).items()
    }
    assert len(seeds) >= 3


def test_the_larger_scale_is_judged_on_every_network():
    claim = claims.get("papyan2020-densenet40-nc1")
    small_runs = CASES[claim.id].make([0.3] * 3)
    protocol = [cell for cell in CELLS["terminal_phase_protocol"] if cell.architecture == "densenet40"]
    assert claim.judge(small_runs).number == pytest.approx(0.3)
    large_runs = falls("nc1_pinv", protocol)([0.1] * 3)
    large_runs = large_runs.assign(run="f" + large_runs.run.str[1:])
    assert claim.judge(pd.concat([small_runs, large_runs])).number == pytest.approx(0.1)


def test_the_sum_of_rows_is_judged_by_what_the_recurrence_leaves():
    run = MUCH[0]
    left = clock.row_sum_factors(run).iloc[-1]
    low, high = (bound for _, bound in bounds(claims.get("zhao2026-decay-row-sum")))
    assert (low, high) == (pytest.approx(0.95 * left, rel=2e-3), pytest.approx(1.05 * left, rel=2e-3))


def test_the_matched_decay_of_adamw_shrinks_weights_as_much_as_that_of_sgd():
    sgd, matched, unmatched = small()[0], CELLS["terminal_phase_decoupled"][0], ADAMW[0]
    assert clock.spent(matched) == pytest.approx(clock.spent(sgd), rel=0.002)
    assert clock.spent(unmatched) < 0.002 * clock.spent(sgd)


def test_a_second_half_of_which_only_the_end_was_measured_decides_nothing():
    claim = claims.get("papyan2020-loss-late")
    made = supported(claim)
    middle = (9 + made.epochs) // 2
    verdict = claim.judge(made[made.epoch != middle + 1])
    assert verdict.status == "inconclusive"
    assert "nothing was measured" in verdict.reason


@pytest.mark.parametrize("epoch", [10, 50, 75])
def test_an_error_that_comes_back_at_any_epoch_of_the_terminal_phase_is_not_effectively_zero(epoch):
    claim = claims.get("papyan2020-stays-fitted")
    errors = {1: 0.5, 5: 0.0, 10: 0.0, 50: 0.0, 75: 0.0} | {epoch: 0.01}
    made = table(
        [(cell, {(*TRAIN, "error", e): x for e, x in errors.items()}) for cell in CELLS["terminal_phase"]]
    )
    assert claim.judge(made).status == "not supported"
    errors[epoch] = 0.0
    kept = made.assign(value=made.epoch.map(errors))
    assert claim.judge(kept).status == "supported"


def test_a_run_that_lacks_what_must_stay_low_is_not_left_out_in_silence():
    judge = terminal_phase.stays("loss", 1.0, lambda rows: rows)
    values = {"error": {1: 0.5, 10: 0.0, 75: 0.0}, "loss": {1: 9.0, 10: 0.5, 75: 0.2}}
    rows = {(*TRAIN, metric, epoch): x for metric, at in values.items() for epoch, x in at.items()}
    four = [dataclasses.replace(CELLS["terminal_phase"][0], seed=seed) for seed in range(4)]
    made = table([(cell, rows) for cell in four])
    lacking = made[(made.seed != 0) | (made.metric != "loss")]
    assert judge(made).status == "supported"
    assert judge(lacking).status == "inconclusive"
    assert "1 of 4 runs lack loss" in judge(lacking).reason


def test_the_largest_scale_with_three_seeds_is_judged_and_no_smaller_one():
    claim = claims.get("papyan2020-nc1")
    low, middle, high = (
        {"train_size": 10_000, "width": 16, "epochs": 75},
        {"train_size": 60_000, "width": 16, "epochs": 120, "lr": 0.25},
        {"train_size": 60_000, "width": 64, "epochs": 350, "lr": 0.25},
    )
    recorded, numbers = [], []
    for value, scale in ((0.3, low), (0.2, middle), (0.1, high)):
        recorded.append(at_scale(value, seeds=2, **scale))
        numbers.append(claim.judge(pd.concat(recorded)).number)
        recorded[-1] = at_scale(value, **scale)
        numbers.append(claim.judge(pd.concat(recorded)).number)
    # Two seeds of a larger scale do not count, three do.
    assert numbers == [None, *(pytest.approx(value) for value in (0.3, 0.3, 0.2, 0.2, 0.1))]
    assert claim.judge(at_scale(0.1, seeds=2, **high)).status == "inconclusive"


@pytest.mark.parametrize("name", ["papyan2020-nc1", "nguyen2023-training", "zhu2021-mnist1d-bias-collapses"])
def test_ratios_of_epochs_and_of_runs_have_a_geometric_mean_over_seeds(name):
    verdict = claims.get(name).judge(CASES[name].make([0.1, 0.2, 0.4]))
    assert verdict.number == pytest.approx(0.2)
    assert verdict.low * verdict.high == pytest.approx(0.04)
    # Control: a difference has the arithmetic one.
    change = claims.get("papyan2020-generalisation")
    assert change.judge(CASES[change.id].make([0.1, 0.2, 0.4])).number == pytest.approx(0.7 / 3)


@pytest.mark.parametrize(
    "other", [{"precision": "float32"}, {"momentum": 0.0}, {"label_noise": 0.1}, {"batch_size": 64}]
)
def test_runs_off_the_protocol_are_no_evidence_on_the_terminal_phase(other):
    claim = claims.get("papyan2020-nc1")
    assert claim.judge(supported(claim).assign(**other)).status == "inconclusive"


def test_runs_are_compared_seed_by_seed_and_one_without_a_partner_is_left_out():
    claim = claims.get("nguyen2023-training")
    made = supported(claim)
    noisy = made[(made.label_noise > 0) & (made.seed == 0)]
    alone = noisy.assign(run="alone", seed=7, value=noisy.value.mask(noisy.metric == "nc1_trace_ratio", 1e9))
    assert claim.judge(pd.concat([made, alone])) == claim.judge(made)
    # Control: with a partner it counts.
    clean = made[(made.label_noise == 0) & (made.seed == 0)].assign(run="partner", seed=7)
    assert claim.judge(pd.concat([made, alone, clean])).n == claim.judge(made).n + 1


# Trained networks beside the theory in particular


def test_random_labels_that_all_or_no_widths_memorise_decide_nothing():
    claim = claims.get("zhu2021-mnist1d-random-labels-widths")
    made = supported(claim)
    errors = (made.metric == "error") & (made.labels == "noisy")
    for error in (0.0, 0.5):
        verdict = claim.judge(made.assign(value=made.value.mask(errors, error)))
        assert verdict.status == "inconclusive" and "the widths are all on one side" in verdict.reason


def test_widths_that_are_not_recorded_are_named_before_anything_is_said_of_the_others():
    claim = claims.get("zhu2021-mnist1d-random-labels-widths")
    made = supported(claim)
    verdict = claim.judge(made[made.width >= 128])
    assert verdict.status == "inconclusive"
    assert verdict.reason == "no runs of width 8, 16, 32, 64 recorded yet"


def test_a_seed_without_all_widths_is_left_out_and_two_are_too_few():
    claim = claims.get("zhu2021-mnist1d-random-labels-widths")
    made = supported(claim)
    assert claim.judge(made).n == 3
    verdict = claim.judge(made[(made.seed > 0) | (made.width != 64)])
    assert (verdict.status, verdict.n) == ("inconclusive", 2)


def test_optimisers_differ_whichever_is_better():
    claim = claims.get("zhu2021-mnist1d-optimizers-test-apart")
    for values in ([0.1, 0.11, 0.12], [-0.08, -0.07, -0.06]):
        verdict = claim.judge(CASES[claim.id].make(values))
        assert verdict.status == "supported" and verdict.number > 0


@pytest.mark.parametrize("place", ["mnist1d", "fashion-mnist"])
def test_how_collapsed_networks_generalise_is_not_judged_where_one_has_not_collapsed(place):
    claim = claims.get(f"zhu2021-{place}-collapsed-optimizers-differ")
    made = supported(claim)
    for name, shown in (("sgd", "SGD"), ("adam", "Adam")):
        for nc2, status in ((0.3, "not supported"), (0.2, "inconclusive")):
            spread = nc2 + 0.01 * (made.seed - 1)
            hit = (made.metric == "nc2_etf_weights") & (made.optimizer == name) & (made.value != DECOY)
            verdict = claim.judge(made.assign(value=made.value.mask(hit, spread)))
            assert verdict.status == "inconclusive" and verdict.number is None
            assert verdict.reason.startswith(f"the premise fails: collapse under {shown} is {status}: {nc2}")
    # Control: the bare difference in test error does not ask.
    bare = claims.get(f"zhu2021-{place}-optimizers-test-apart")
    far = made.assign(value=made.value.mask(made.metric.isin(COLLAPSE), 9.0))
    assert bare.judge(far) == bare.judge(made) == claim.judge(made)
    assert claim.judge(far).status == "inconclusive"


@pytest.mark.parametrize("name", ["optimizers-collapse-alike", "last-layer-decay-collapses-alike"])
def test_the_same_collapse_is_neither_much_more_nor_much_less(name):
    claim = claims.get(f"zhu2021-mnist1d-{name}")
    make = CASES[claim.id].make
    for times, status in ((0.4, "not supported"), (0.9, "supported"), (2.5, "not supported")):
        verdict = claim.judge(make([times] * 3))
        assert verdict.status == status
        assert verdict.number == pytest.approx(max(times, 1 / times))


@pytest.mark.parametrize("measure", ["nc1", "nc2", "nc3"])
def test_random_labels_that_are_not_memorised_are_not_compared_with_true_ones(measure):
    claim = claims.get(f"zhu2021-mnist1d-random-labels-{measure}-as-true")
    made = supported(claim)
    random_error = (made.metric == "error") & (made.labels == "noisy") & (made.seed == 1)
    verdict = claim.judge(made.assign(value=made.value.mask(random_error, 0.011)))
    assert str(verdict) == "inconclusive: 1 runs do not memorise their labels to 1%"
    # Control: the error on true labels is not asked about.
    true_error = (made.metric == "error") & (made.labels == "clean")
    assert claim.judge(made.assign(value=made.value.mask(true_error, 0.5))) == claim.judge(made)


def test_the_sources_settings_of_random_labels_and_ours_are_judged_apart():
    ours, source = (claims.get(f"zhu2021-mnist1d-random-labels-widths{end}") for end in ("", "-source"))
    tables_of = {claim: supported(claim) for claim in (ours, source)}
    assert source.judge(tables_of[ours]).status == ours.judge(tables_of[source]).status == "inconclusive"
    both = pd.concat([tables_of[ours], tables_of[source].assign(run="f" + tables_of[source].run.str[1:])])
    assert (ours.judge(both), source.judge(both)) == tuple(c.judge(tables_of[c]) for c in (ours, source))


# Double descent in particular


def errors_by_width(read):
    return by_width(lambda m, a, o, w, v: read(a, o, w, v) if m == "error" else None)


def test_a_curve_without_its_peak_has_none():
    claim = claims.get("bardazzi2026-peak")
    assert claim.judge(errors_by_width(lambda a, o, w, v: PEAKED[w])([0, 1, 2])).status == "supported"
    falling = dict(zip(PEAKED, np.linspace(0.6, 0.3, len(PEAKED)), strict=True))
    assert claim.judge(errors_by_width(lambda a, o, w, v: falling[w])([0, 1, 2])).status == "not supported"
    # One configuration without a peak is enough.
    one = errors_by_width(lambda a, o, w, v: falling[w] if first(a, o) else PEAKED[w])([0, 1, 2])
    assert claim.judge(one).status == "not supported"
    # A rise that never comes down again is no peak either.
    rising = errors_by_width(lambda a, o, w, v: max(PEAKED[w], 0.4) if w > 16 else PEAKED[w])([0, 1, 2])
    assert claim.judge(rising).status == "not supported"


def test_a_peak_that_moves_with_every_seed_is_the_selection_of_a_maximum():
    # Flat curves with noise: each seed's own maximum looks like a peak, and read off the others it is none.
    rng = np.random.default_rng(0)
    noise = {(a, o, w, v): rng.normal(0, 0.03) for a, o in CONFIGURATIONS for w in PEAKED for v in (0, 1, 2)}
    made = errors_by_width(lambda a, o, w, v: 0.35 + noise[a, o, w, v])([0, 1, 2])
    assert claims.get("bardazzi2026-peak").judge(made).status != "supported"
    own = [max(noise[a, o, w, 0] for w in PEAKED) - noise[a, o, 64, 0] for a, o in CONFIGURATIONS]
    assert max(own) > 0.02, "the control: taken at face value there is a peak"


def longer(table):
    """The same table as if its runs had been 500 epochs long."""
    moved = table.epoch.where(table.epoch < table.epochs, 500)
    return table.assign(run="long" + table.run, epochs=500, epoch=moved)


def test_the_longest_runs_that_are_there_in_full_are_judged():
    claim = claims.get("bardazzi2026-peak")
    short = errors_by_width(lambda a, o, w, v: PEAKED[w])([0, 1, 2])
    flat = longer(errors_by_width(lambda a, o, w, v: 0.4)([0, 1, 2]))
    assert claim.judge(short).status == "supported"
    assert claim.judge(pd.concat([short, flat])).status == "not supported"
    for part in (
        flat[flat.width != 12],
        flat[flat.seed < 2],
        flat[(flat.seed < 2) | (flat.optimizer == "sgd")],
    ):
        assert claim.judge(pd.concat([short, part])).status == "supported", "in part is not in full"
    assert claim.judge(flat[flat.seed < 2]).status == "inconclusive"


def test_runs_whose_noise_has_a_seed_of_its_own_are_another_question():
    claim = claims.get("bardazzi2026-peak")
    made = errors_by_width(lambda a, o, w, v: PEAKED[w])([0, 1, 2])
    apart = made.assign(run="apart" + made.run, noise_seed=made.noise_seed + 1, value=0.4)
    assert claim.judge(pd.concat([made, apart])) == claim.judge(made)
    assert claim.judge(apart).status == "inconclusive"


def test_peak_and_minimum_are_chosen_on_the_other_seeds():
    frame = pd.DataFrame({2: [0.5] * 3, 4: [0.3] * 3, 6: [0.4] * 3, 8: [0.9, 0.4, 0.4], 64: [0.2] * 3})
    chosen = bardazzi2026.cross_fitted(frame)
    assert list(chosen.peak) == [6, 8, 8]
    assert list(chosen.minimum) == [4, 4, 4]


@pytest.mark.parametrize("architecture", ["resnet1d", "cnn1d"])
@pytest.mark.parametrize("width", [2, 16])
def test_parameter_counts_are_the_networks_own(architecture, width):
    model = build(architecture, num_classes=10, width=width, generator=generator("init", 0))
    assert bardazzi2026.parameters(architecture, width) == sum(p.numel() for p in model.parameters())


def test_the_claims_judge_the_grids_that_are_recorded():
    assert {cell.width for cell in CELLS["model_wise"]} == set(bardazzi2026.WIDTHS)
    assert {cell.feature_dim for cell in CELLS["feature_dimension"]} == set(feature_dimension.DIMENSIONS)
    every = {cell.feature_dim for cell in CELLS["feature_dimension_all"]}
    assert every == {*feature_dimension.ALL_DIMENSIONS, 64}
    for grid, width in (("epoch_wise", 12), ("epoch_wise", 64)):
        (length,) = {cell.epochs for cell in CELLS[grid] if cell.width == width}
        assert length == epoch_wise.LENGTH[width]


# The arithmetic of verdicts


def series(*values):
    return pd.Series(values, index=range(len(values)), dtype=float)


def test_the_interval_is_students_by_hand():
    verdict = mean_over_seeds(series(1.0, 2.0, 3.0), below=100.0)
    t = 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))  # the quantile of two degrees of freedom has a closed form
    half = t * 1.0 / math.sqrt(3)
    assert (verdict.number, verdict.n) == (2.0, 3)
    assert verdict.low == pytest.approx(2 - half, rel=1e-12)
    assert verdict.high == pytest.approx(2 + half, rel=1e-12)


def test_a_ratio_is_averaged_on_the_log_scale():
    verdict = mean_over_seeds(series(0.1, 1.0, 10.0), above=1e-9, ratio=True)
    assert verdict.number == pytest.approx(1.0)
    assert verdict.low * verdict.high == pytest.approx(1.0)
    assert mean_over_seeds(series(0.1, 0.0, 0.1), below=1.0, ratio=True).status == "inconclusive"
    assert mean_over_seeds(series(0.1, -1.0, 0.1), below=1.0, ratio=True).status == "inconclusive"


@pytest.mark.parametrize(
    ("values", "options", "status"),
    [
        ((1.0, 1.0, 1.0), {"below": 1.0}, "not supported"),
        ((1.0, 1.0, 1.0), {"above": 1.0}, "not supported"),
        ((0.9, 0.9, 0.9), {"below": 1.0}, "supported"),
        ((0.5, 0.5, 0.5), {"above": 0.4, "below": 0.6}, "supported"),
        ((0.7, 0.7, 0.7), {"above": 0.4, "below": 0.6}, "not supported"),
        ((0.3, 0.3, 0.3), {"above": 0.4, "below": 0.6}, "not supported"),
        ((0.5, 0.6, 0.7), {"above": 0.4, "below": 0.6}, "inconclusive"),
        ((0.9, 0.9, math.nan), {"below": 1.0}, "inconclusive"),
        ((0.9, 0.9, -math.inf), {"below": 1.0}, "inconclusive"),
        ((0.9, 0.9), {"below": 1.0}, "inconclusive"),
        ((), {"below": 1.0}, "inconclusive"),
    ],
)
def test_a_mean_is_judged_by_its_whole_interval(values, options, status):
    assert mean_over_seeds(series(*values), **options).status == status


def test_all_runs_are_judged_by_the_worst():
    verdict = every_run(series(1.0, 3.0, 2.0), below=3.5)
    assert (verdict.status, verdict.number, verdict.low, verdict.high, verdict.n) == (
        "supported",
        3.0,
        1.0,
        3.0,
        3,
    )
    assert every_run(series(1.0, 3.0, 2.0), below=3.0).status == "not supported"
    assert every_run(series(1.0, 3.0, 2.0), above=1.0).status == "not supported"
    assert every_run(series(1.0, 3.0, 2.0), above=0.5).number == 1.0
    assert every_run(series(1.0, math.nan, 2.0), below=9.0).status == "inconclusive"
    assert every_run(series(1.0, 2.0), below=9.0).status == "inconclusive"


def test_a_predicate_needs_a_threshold():
    for judge in (mean_over_seeds, every_run):
        with pytest.raises(ValueError, match="needs a threshold"):
            judge(series(1.0, 2.0, 3.0))


def small_table():
    rows = {(*TRAIN, "error", e): x for e, x in {1: 0.5, 4: 0.0, 9: 0.1, 75: 0.0}.items()}
    rows |= {(*TRAIN, "loss", e): float(e) for e in (1, 4, 9, 75)} | {(*TEST, "loss", 75): 3.0}
    return table([(cell, rows) for cell in CELLS["terminal_phase"]])


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [
        (0.6, 0.95, "supported"),
        (0.9, 1.1, "inconclusive"),
        (1.01, 1.2, "not supported"),
        (1.0, 1.2, "not supported"),
    ],
)
def test_by_sign_a_ratio_is_held_against_one_whatever_its_condition(low, high, status):
    asked = Verdict("not supported", (low + high) / 2, low, high, 3)
    signed = by_sign(asked)
    assert (signed.status, signed.low, signed.high, signed.n) == (status, low, high, 3)
    nothing = Verdict("inconclusive", reason="nothing recorded yet", awaits_runs=True)
    assert by_sign(nothing) == nothing


def test_a_value_is_read_at_exactly_the_epoch_asked_for():
    rows = small_table()
    epochs = pd.Series({run: e for run, e in zip(rows.run.unique(), (1, 9, 75), strict=True)})
    assert list(per_run(rows, "loss", epochs, split="train").loc[epochs.index]) == [1.0, 9.0, 75.0]
    with pytest.raises(Missing, match="loss is missing from 1 of 3 runs"):
        per_run(rows, "loss", epochs.replace(9, 10), split="train")
    with pytest.raises(Missing, match="not one number per run"):
        per_run(rows, "loss", final_epoch(rows))
    with pytest.raises(Missing, match="nc1_pinv is missing from 3 of 3"):
        per_run(rows, "nc1_pinv", final_epoch(rows))
    assert list(terminal_epoch(rows)) == [4, 4, 4]
    assert list(terminal_epoch(rows, at_most=0.5)) == [1, 1, 1]
    assert list(final_epoch(rows)) == [75, 75, 75]


def test_values_by_seed_refuse_a_seed_that_stands_twice():
    rows = small_table()
    values = pd.Series(1.0, index=rows.run.unique())
    assert list(by_seed(values, rows).index) == [0, 1, 2]
    with pytest.raises(Missing, match="a seed stands for several runs"):
        by_seed(values, rows.assign(seed=0))


def test_missing_evidence_is_a_verdict_and_an_error_is_an_error():
    def judge(table):
        """What it judges."""
        raise Missing("it diverged") if table.empty else KeyError("width")

    wrapped = judged(judge)
    assert wrapped(pd.DataFrame()) == Verdict("inconclusive", reason="it diverged")
    without_runs = judged(evidence)(pd.DataFrame())
    assert without_runs == Verdict("inconclusive", reason="nothing recorded yet", awaits_runs=True)
    assert wrapped.__doc__ == "What it judges."
    with pytest.raises(KeyError):
        wrapped(pd.DataFrame({"a": [1]}))


def test_verdicts_print_with_number_interval_and_n():
    assert str(Verdict("supported", 0.12345, 0.1, 0.2, 3)) == "supported: 0.123 [0.1, 0.2], n = 3"
    undecided = Verdict("inconclusive", 1.0, 0.5, 1.5, 3, "the interval straddles the threshold")
    assert str(undecided) == "inconclusive: 1 [0.5, 1.5], n = 3 (the interval straddles the threshold)"
    assert claims.lines(pd.DataFrame(), "papyan2020-nc1", "papyan2020-nc4") == (
        "papyan2020-nc1: inconclusive: nothing recorded yet\npapyan2020-nc4: inconclusive: nothing recorded yet"
    )


def test_all_are_judged_and_a_study_without_a_table_is_undecided():
    claim = claims.get("papyan2020-nc1")
    verdicts = claims.judge_all({"terminal_phase": at_end("nc2_etf_means")([0.05] * 3)})
    assert list(verdicts) == [c.id for c in claims.ALL]
    assert verdicts["papyan2020-nc2-reached"].status == "supported"
    assert "nc1_pinv is missing" in verdicts[claim.id].reason
    assert {v.status for name, v in verdicts.items() if not name.startswith(("papyan", "galanti"))} == {
        "inconclusive"
    }


# The study's numbered statements


def test_every_numbered_statement_is_judged_and_no_other():
    judged = {number for claim in claims.ALL for number in claim.numbers}
    assert judged == set(bardazzi2026.NUMBERED)
    assert set(bardazzi2026.NUMBERED) == {str(i) for i in range(1, 26)} | {f"R{i}" for i in range(1, 10)}
    assert {claim.source for claim in claims.ALL if claim.numbers} == {"bardazzi2026"}


# The bootstrap


def test_up_to_five_seeds_the_bootstrap_is_exact():
    values = np.array([1.0, 2.0, 4.0, 8.0])
    verdict = bootstrap_over_seeds(lambda s: values[s].mean(), 4, above=0.0)
    every = np.sort([values[list(s)].mean() for s in itertools.product(range(4), repeat=4)])
    assert verdict.number == pytest.approx(3.75)
    assert verdict.low == pytest.approx(every[math.ceil(0.025 * len(every)) - 1])
    assert verdict.high == pytest.approx(every[math.ceil(0.975 * len(every)) - 1])
    assert verdict == bootstrap_over_seeds(lambda s: values[s].mean(), 4, above=0.0), "no chance in it"


def test_of_more_seeds_it_is_drawn_and_near_the_normal_interval():
    values = np.random.default_rng(1).normal(5, 2, 40)
    verdict = bootstrap_over_seeds(lambda s: values[s].mean(), 40, above=0.0)
    half = 1.96 * values.std() / math.sqrt(40)
    assert verdict.low == pytest.approx(values.mean() - half, abs=0.15)
    assert verdict.high == pytest.approx(values.mean() + half, abs=0.15)
    assert verdict == bootstrap_over_seeds(lambda s: values[s].mean(), 40, above=0.0)


@pytest.mark.parametrize(
    ("values", "threshold", "status"),
    [
        ([1.0, 1.1, 1.2], {"above": 0.9}, "supported"),
        ([1.0, 1.1, 1.2], {"below": 0.9}, "not supported"),
        ([1.0, 1.1, 0.7], {"above": 0.9}, "inconclusive"),
        ([1.0, 1.1], {"above": 0.9}, "inconclusive"),
        ([1.0, 1.1, math.nan], {"above": 0.9}, "inconclusive"),
    ],
)
def test_the_bootstrap_judges_by_its_whole_interval(values, threshold, status):
    x = np.array(values)
    assert bootstrap_over_seeds(lambda s: x[s].mean(), len(x), **threshold).status == status


def test_partial_correlation_frees_both_of_the_third():
    rng = np.random.default_rng(0)
    z = rng.permutation(200).astype(float)
    x, y = z + rng.normal(0, 20, 200), z + rng.normal(0, 20, 200)
    assert correlation.spearman(x, y) > 0.7
    assert abs(correlation.partial_spearman(x, y, z)) < 0.2
    assert correlation.partial_spearman(x, x + rng.normal(0, 1, 200), z) > 0.8
    assert math.isnan(correlation.spearman(np.ones(5), np.arange(5.0)))


def test_a_change_point_is_where_the_second_constant_begins():
    step = pd.Series({d: 5.0 if d < 9 else 1.0 for d in range(2, 17)})
    assert feature_dimension.changepoint(step) == 9
    assert feature_dimension.changepoint(step + 0.1 * np.sin(step.index)) == 9
    smooth = pd.Series({d: 10 / d for d in range(2, 17)})
    assert feature_dimension.changepoint(smooth) == 5, "early in its fall"


@pytest.mark.parametrize("shares", [(0.989, 1.0), (1.0, 0.989)])
def test_distances_of_fewer_than_99_in_100_images_decide_nothing(shares):
    claim = claims.get("papyan2020-robustness")
    verdict = claim.judge(robust(*shares)([1.2, 1.21, 1.22]))
    assert str(verdict) == "inconclusive: DeepFool moved 98.9% of the images of a run, not 99%"
    assert claim.judge(robust(0.991, 0.99)([1.2, 1.21, 1.22])).status == "supported"
