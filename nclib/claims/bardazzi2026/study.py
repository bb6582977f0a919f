"""What the experiments of Bardazzi (2026) share: protocol, lengths, networks, and how a claim on them is put."""

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from nclib.claims.verdict import MIN_SEEDS, Claim, Missing, Unrecorded, evidence, final_epoch, per_run
from nclib.tables import select

EPOCHS = 300
"""Length of the judged runs of experiment 3 and of the controls; the study itself trains for 3000."""
LENGTHS = (500, 300)
"""Lengths of experiments 1 and 4: judged is the first of these that is recorded in full."""
WIDTHS = (2, 4, 6, 8, 10, 12, 16, 24, 32, 48, 64)
ARCHITECTURES = ("resnet1d", "cnn1d")
CONFIGURATIONS = tuple((a, o) for a in ARCHITECTURES for o in ("adam", "sgd"))
OWN = {
    "sgd": {"optimizer": "sgd", "lr": 0.01, "schedule": "cosine", "weight_decay": 5e-4},
    "adam": {"optimizer": "adam", "lr": 1e-3, "schedule": "constant", "weight_decay": 1e-4},
}
"""The study's settings of either optimiser."""
PROTOCOL = {
    "label_noise": 0.2, "noise_model": "symmetric_including_true", "batch_size": 128, "precision": "float32",
}  # fmt: skip
"""What every run has in common, but for the one thing that a control varies."""
TRAINING = PROTOCOL | {"train_size": 4000, "averaged": False}
"""The same for runs of one network."""
NOISY = {"split": "train", "labels": "noisy", "layer": "features"}
WHOLE = {"split": "none", "labels": "none", "layer": "all"}
FRESH = {"split": "fresh", "labels": "clean", "layer": "features"}


def judged_runs(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows of runs of one kind whose seed varies weights, order and noise together; Missing without any."""
    rows = evidence(table, **where)
    rows = rows[rows.noise_seed == rows.seed]  # runs that vary them apart are another question
    if rows.empty:
        raise Unrecorded("every such run draws its label noise from a seed of its own")
    return rows


def in_full(rows: pd.DataFrame, axes: list[str], wanted: int) -> pd.DataFrame:
    """The rows, if all `wanted` combinations of `axes` are there with the same seeds, at least three; else Missing."""
    cells = rows.drop_duplicates("run").groupby(axes).seed.apply(frozenset)
    if len(cells) < wanted:
        raise Unrecorded(f"{len(cells)} of {wanted} combinations of {', '.join(axes)} recorded")
    if cells.nunique() > 1:
        raise Unrecorded("not every combination is recorded with the same seeds")
    if len(cells.iloc[0]) < MIN_SEEDS:
        raise Unrecorded(f"{len(cells.iloc[0])} of at least {MIN_SEEDS} seeds recorded")
    return rows


def longest(table: pd.DataFrame, runs_of: Callable[[pd.DataFrame, int], pd.DataFrame]) -> pd.DataFrame:
    """What `runs_of` finds at the first of `LENGTHS` that is recorded in full; Missing where none is."""
    reason: Missing = Unrecorded("nothing recorded yet")
    for epochs in LENGTHS:
        try:
            return runs_of(table, epochs)
        except Missing as missing:
            reason = missing
    raise reason


def frame_at_end(rows: pd.DataFrame, metric: str, axes: str | list[str], **where: object) -> pd.DataFrame:
    """A metric at every run's last epoch, seeds by the values of `axes`; Missing when a seed stands there twice."""
    names = [axes] if isinstance(axes, str) else axes
    values = per_run(rows, metric, final_epoch(rows), **where)
    about = rows.drop_duplicates("run").set_index("run")[[*names, "seed"]]
    if about.duplicated().any():
        raise Missing("a seed stands for several runs of one combination: the table must hold one of them")
    frame = about.join(values.rename("value")).pivot(index="seed", columns=axes, values="value")
    return frame.sort_index(axis=1)


def over_epochs(rows: pd.DataFrame, metric: str, **where: object) -> pd.DataFrame:
    """A metric at every measured epoch from 1 on, seeds by epochs; Missing when a run lacks one of them."""
    final_epoch(rows)  # a run that stopped early is no evidence of how it ends
    found = select(rows, metric=metric, **where)
    found = found[found.epoch > 0]
    if found.duplicated(["seed", "epoch"]).any():
        raise Missing("a seed stands for several runs: the table must hold one of them")
    frame = found.pivot(index="seed", columns="epoch", values="value")
    if len(frame) < rows.seed.nunique() or not np.isfinite(frame.to_numpy()).all():
        raise Missing(f"{metric} is not a number at every measured epoch of every run")
    return frame


def own_settings(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs under either optimiser's own settings."""
    return pd.concat([select(rows, **settings) for settings in OWN.values()])


def parameters(architecture: str, width: int) -> int:
    """Parameter count of the study's networks: 12 w^2 + 23 w (ResNet1D), 21 w^2 + 35 w (CNN1D)."""
    a, b = {"resnet1d": (12, 23), "cnn1d": (21, 35)}[architecture]
    return a * width**2 + b * width


def claim(
    name: str,
    statement: str,
    place: str,
    measure: str,
    predicate: str,
    judge,
    published: str = "",
    *,
    numbers: Iterable[str] = (),
    **more,
) -> Claim:
    """A claim of this source; on MNIST-1D in the chapter on double descent unless `more` says otherwise.

    `numbers`: which of the slides' claims 1 to 25 and the README's R1 to R9 it judges.
    """
    common = {"source": "bardazzi2026", "study": "mnist1d", "page": "30_double_descent"} | more
    return Claim(
        id=f"{common['source']}-{name}", statement=statement, place=place, measure=measure, predicate=predicate,
        judge=judge, published=published, numbers=tuple(numbers), **common,
    )  # fmt: skip
