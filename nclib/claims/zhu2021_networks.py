"""Zhu et al. (2021), trained networks: optimisers, what is decayed, random labels, fixed classifiers, the bias."""

import pandas as pd

from nclib.claims.terminal_phase import PROTOCOL, TEST, TRAIN, Runs, through, varied
from nclib.claims.terminal_phase import claim as _claim
from nclib.claims.verdict import (
    Claim,
    Missing,
    Verdict,
    by_seed,
    evidence,
    final_epoch,
    judged,
    mean_over_seeds,
    per_run,
    terminal_epoch,
)

SIGNAL = {
    "dataset": "mnist1d", "architecture": "mlp", "train_size": 3900, "width": 256, "depth": 4, "epochs": 200,
    "lr": 0.05, "precision": "float32",
}  # fmt: skip
"""MNIST-1D: a perceptron, and as many signals of each class as all classes have."""
ADAM_RATE = 1e-3  # of Adam, in the source's README
LBFGS = {"optimizer": "lbfgs", "lr": 0.1, "batch_size": 2048, "precision": "float32"}
FEATURE_DECAY = 5e-3
WIDTHS = {"fashion-mnist": (2, 4, 8, 16), "mnist1d": (8, 16, 32, 64, 128, 256)}
"""Of the networks that are to memorise random labels."""
COLLAPSED = 0.2
"""NC1, and NC2 and NC3 as distances from the simplex, of which the largest possible is near 1.4."""
MEMORISED = 0.01
COLLAPSE = ("nc1_pinv", "nc2_etf_weights", "nc3_etf")
ALL = {"split": "train", "labels": "clean", "layer": "all"}


def _signal(**what: object) -> Runs:
    return lambda table: evidence(table, **PROTOCOL | SIGNAL | what)


PLACES = {"fashion-mnist": varied, "mnist1d": _signal}
_LBFGS_EPOCHS = {"fashion-mnist": 15, "mnist1d": 60}


def _collapse_at_end(rows: pd.DataFrame, where: dict[str, str] = TRAIN) -> pd.Series:
    """By run, the largest of NC1, NC2 and NC3 at the last epoch."""
    end = final_epoch(rows)
    return pd.concat([per_run(rows, metric, end, **where) for metric in COLLAPSE], axis=1).max(axis=1)


def _collapses(runs: Runs):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        terminal_epoch(rows)  # a run that never enters the terminal phase says nothing about it
        return mean_over_seeds(by_seed(_collapse_at_end(rows), rows), below=COLLAPSED)

    return judge


def _error_difference(these: Runs, those: Runs, table: pd.DataFrame) -> pd.Series:
    """By seed, the test error of these runs at the last epoch minus that of those."""
    a, b = (
        by_seed(per_run(rows, "error", final_epoch(rows), **TEST), rows)
        for rows in (these(table), those(table))
    )
    paired = a.index.intersection(b.index)
    return a[paired] - b[paired]


def _no_worse(these: Runs, those: Runs, below: float):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        return mean_over_seeds(_error_difference(these, those, table), below=below)

    return judge


def _apart(these: Runs, those: Runs, above: float):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        difference = _error_difference(these, those, table)
        return mean_over_seeds(difference if difference.mean() > 0 else -difference, above=above)

    return judge


def _collapse_where_memorised(place: str):
    """Share of widths at which the random labels are memorised and collapsed, or neither."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = PLACES[place](label_noise=1.0, width=WIDTHS[place])(table)
        noisy = TRAIN | {"labels": "noisy"}
        memorised = per_run(rows, "error", final_epoch(rows), **noisy) <= MEMORISED
        if memorised.all() or not memorised.any():
            raise Missing("the widths are all on one side: every network memorises, or none")
        agree = (_collapse_at_end(rows, noisy) < COLLAPSED) == memorised
        cells = rows.groupby("run")[["seed", "width"]].first()
        if cells.duplicated().any():
            raise Missing("a seed stands for several runs: the claim must say which")
        shares = agree.groupby(cells.seed).agg(["mean", "size"])
        return mean_over_seeds(shares["mean"][shares["size"] == len(WIDTHS[place])], above=0.8)

    return judge


def _first_epoch(rows: pd.DataFrame) -> pd.Series:
    """Each run's first measured epoch; Missing when a run never reaches zero training error."""
    terminal_epoch(rows)
    return rows.groupby("run").epoch.min()


def _at_the_minimum(runs: Runs):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        return mean_over_seeds(
            by_seed(per_run(rows, "objective_gap", final_epoch(rows), **ALL), rows), below=0.1
        )

    return judge


def _of(place: str) -> tuple[Claim, ...]:
    runs, where = PLACES[place], {"fashion-mnist": "FashionMNIST", "mnist1d": "MNIST-1D"}[place]
    plain = runs()
    optimizers = {
        "sgd": ("SGD", plain),
        "adam": ("Adam", runs(optimizer="adam", lr=ADAM_RATE)),
        "lbfgs": ("L-BFGS", runs(**LBFGS, epochs=_LBFGS_EPOCHS[place])),
    }
    peeled = runs(decayed="last_layer", feature_decay=FEATURE_DECAY)
    etf, d_is_K = runs(classifier="etf"), runs(classifier="etf", feature_dim=10)
    largest = "largest of NC1, NC2 (classifiers) and NC3 at the last epoch"

    def claim(name: str, statement: str, at: str, measure: str, predicate: str, judge) -> Claim:
        return _claim(
            f"{place}-{name}", f"{where}: {statement}", at, measure, predicate, judge,
            source="zhu2021", page="23_real_networks",
        )  # fmt: skip

    return (
        *(
            claim(f"{key}-collapses", f"the last layer collapses under {name}.", "fig. 3", largest, "below 0.2",
                  _collapses(chosen))
            for key, (name, chosen) in optimizers.items()
        ),
        claim(
            "optimizers-test-apart", "networks that collapse alike do not generalise alike.",
            "as summarised in Kothapalli (2023)", "mean difference in test error of SGD and Adam, its size",
            "above 0.005", _apart(optimizers["adam"][1], plain, 0.005),
        ),
        claim(
            "last-layer-decay-collapses", "decay on classifier and features alone gives the same collapse.",
            "experiments on weight decay", largest, "below 0.2", _collapses(peeled),
        ),
        claim(
            "last-layer-decay-error", "decay on classifier and features alone keeps the accuracy.",
            "experiments on weight decay", "test error minus that with decay on everything", "below 0.01",
            _no_worse(peeled, plain, 0.01),
        ),
        claim(
            "last-layer-decay-minimum", "a trained network comes close to the unconstrained minimum.",
            "derived from theorem 3.1", "(f − f*)/f* at the last epoch", "below 0.1", _at_the_minimum(peeled),
        ),
        claim(
            "random-labels-widths", "random labels collapse at the widths that memorise them, and at no other.",
            "fig. 4", "share of widths memorised to 1 % and collapsed to 0.2, or neither", "above 0.8",
            _collapse_where_memorised(place),
        ),
        claim(
            "fixed-etf-error", "a classifier fixed to a simplex ETF keeps the accuracy.", "fig. 6",
            "test error minus that of the learned classifier", "below 0.005", _no_worse(etf, plain, 0.005),
        ),
        claim(
            "fixed-etf-narrow-error", "so does one fixed to a simplex ETF with d = K.", "fig. 6",
            "test error minus that of the learned classifier", "below 0.005", _no_worse(d_is_K, plain, 0.005),
        ),
        claim(
            "fixed-etf-narrow-collapses", "features of d = K collapse onto the fixed simplex ETF.", "fig. 6",
            largest, "below 0.2", _collapses(d_is_K),
        ),
        claim(
            "bias-collapses", "the bias cancels the global mean, W μ_G + b → 0.", "fig. 3",
            "‖W μ_G + b‖ at the last over the first measured epoch", "below 0.2",
            through("bias_collapse", plain, since=_first_epoch, below=0.2),
        ),
    )  # fmt: skip


CLAIMS = (*_of("fashion-mnist"), *_of("mnist1d"))
