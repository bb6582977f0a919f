"""Zhu et al. (2021), trained networks: optimisers, what is decayed, fixed classifiers, the bias."""

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
    first_epoch,
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
COLLAPSED = 0.2
"""NC1, and NC2 and NC3 as distances from the simplex, which for K = 10 are at most near 1.4 and at most 2."""
ALIKE = 2.0
"""Collapse is the same where the largest of the three measures differs by less than this factor. Ours."""
COLLAPSE = ("nc1_pinv", "nc2_etf_weights", "nc3_etf")
ALL = {"split": "train", "labels": "clean", "layer": "all"}


def _signal(**what: object) -> Runs:
    return lambda table: evidence(table, **PROTOCOL | SIGNAL | what)


PLACES = {"fashion-mnist": varied, "mnist1d": _signal}
WHERE = {"fashion-mnist": "FashionMNIST", "mnist1d": "MNIST-1D"}
_LBFGS_EPOCHS = {"fashion-mnist": 15, "mnist1d": 60}


def collapse_at_end(rows: pd.DataFrame, where: dict[str, str] = TRAIN) -> pd.Series:
    """By run, the largest of NC1, NC2 and NC3 at the last epoch."""
    end = final_epoch(rows)
    return pd.concat([per_run(rows, metric, end, **where) for metric in COLLAPSE], axis=1).max(axis=1)


def _of_terminal_phase(runs: Runs, table: pd.DataFrame) -> pd.Series:
    """By seed, the collapse at the end of runs that all reach zero training error; Missing where one does not."""
    rows = runs(table)
    terminal_epoch(rows)  # a run that never enters the terminal phase says nothing about it
    return by_seed(collapse_at_end(rows), rows)


def _collapses(runs: Runs):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        return mean_over_seeds(_of_terminal_phase(runs, table), below=COLLAPSED)

    return judge


def _collapse_alike(*kinds: Runs):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        ends = pd.concat([_of_terminal_phase(runs, table) for runs in kinds], axis=1, join="inner")
        return mean_over_seeds(ends.max(axis=1) / ends.min(axis=1), ratio=True, below=ALIKE)

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


def _apart_once_collapsed(these: tuple[str, Runs], those: tuple[str, Runs], above: float):
    """The same, where runs of both names collapse; Missing where they do not."""

    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        for name, runs in (these, those):
            collapse = mean_over_seeds(_of_terminal_phase(runs, table), below=COLLAPSED)
            if collapse.status != "supported":
                raise Missing(f"the premise fails: collapse under {name} is {collapse}")
        return _apart(these[1], those[1], above)(table)

    return judge


def _first_epoch(rows: pd.DataFrame) -> pd.Series:
    """Each run's first measured epoch; Missing when a run never reaches zero training error."""
    terminal_epoch(rows)
    return first_epoch(rows)


def _bias_cancels(runs: Runs):
    return through("bias_collapse", runs, since=_first_epoch, below=0.2)


def _at_the_minimum(runs: Runs):
    @judged
    def judge(table: pd.DataFrame) -> Verdict:
        rows = runs(table)
        return mean_over_seeds(
            by_seed(per_run(rows, "objective_gap", final_epoch(rows), **ALL), rows), below=0.1
        )

    return judge


def claim_at(place: str):
    """A maker of claims on the networks at one place; `late` ones came after its first runs, if they are recorded."""

    def claim(
        name: str, statement: str, at: str, measure: str, predicate: str, judge, late: bool = False
    ) -> Claim:
        return _claim(
            f"{place}-{name}", f"{WHERE[place]}: {statement}", at, measure, predicate, judge,
            source="zhu2021", page="23_real_networks",
            registered="after" if late and place == "mnist1d" else "before",
        )  # fmt: skip

    return claim


def _of(place: str) -> tuple[Claim, ...]:
    runs, claim = PLACES[place], claim_at(place)
    plain = runs()
    sgd, adam = ("SGD", plain), ("Adam", runs(optimizer="adam", lr=ADAM_RATE))
    lbfgs = ("L-BFGS", runs(**LBFGS, epochs=_LBFGS_EPOCHS[place]))
    adamw = ("AdamW", runs(optimizer="adamw", lr=ADAM_RATE))
    optimizers = {"sgd": sgd, "adam": adam, "lbfgs": lbfgs}
    peeled = runs(decayed="last_layer", feature_decay=FEATURE_DECAY)
    etf, d_is_K = runs(classifier="etf"), runs(classifier="etf", feature_dim=10)
    largest = "largest of NC1, NC2 (classifiers) and NC3 at the last epoch"
    growth = "‖W μ_G + b‖ at the last over the first measured epoch"

    return (
        *(
            claim(f"{key}-collapses", f"the last layer collapses under {name}.", "fig. 3", largest, "below 0.2",
                  _collapses(chosen))
            for key, (name, chosen) in optimizers.items()
        ),
        claim(
            "optimizers-collapse-alike", "SGD, Adam and L-BFGS end in the same collapse.", "fig. 3",
            f"{largest}, the largest over the smallest of the optimisers", "below 2",
            _collapse_alike(plain, adam[1], lbfgs[1]), late=True,
        ),
        claim(
            "optimizers-test-apart", "SGD and Adam differ in test error.",
            "as summarised in Kothapalli (2023)", "mean difference in test error of SGD and Adam, its size",
            "above 0.005", _apart(adam[1], plain, 0.005),
        ),
        claim(
            "collapsed-optimizers-differ", "networks that collapse alike do not generalise alike.",
            "as summarised in Kothapalli (2023)", "the same where SGD and Adam have both collapsed to below 0.2",
            "above 0.005", _apart_once_collapsed(adam, sgd, 0.005), late=True,
        ),
        claim(
            "last-layer-decay-collapses", "with decay on classifier and features alone the last layer collapses, too.",
            "experiments on weight decay", largest, "below 0.2", _collapses(peeled),
        ),
        claim(
            "last-layer-decay-collapses-alike", "decay on classifier and features alone gives the same collapse.",
            "experiments on weight decay", f"{largest}, the larger over the smaller of this decay and the usual one",
            "below 2", _collapse_alike(peeled, plain), late=True,
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
            "bias-collapses", "the bias cancels the global mean, W μ_G + b → 0.", "fig. 3", growth, "below 0.2",
            _bias_cancels(plain),
        ),
        *(
            claim(f"{key}-bias-collapses", f"under {name}, too, the bias cancels the global mean, W μ_G + b → 0.",
                  at, growth, "below 0.2", _bias_cancels(chosen), late=True)
            for key, (name, chosen), at in (
                ("adam", adam, "fig. 3"), ("lbfgs", lbfgs, "fig. 3"), ("adamw", adamw, "fig. 3, which has no AdamW"),
            )
        ),
    )  # fmt: skip


CLAIMS = (*_of("fashion-mnist"), *_of("mnist1d"))
