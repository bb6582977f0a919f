"""What a table of terminal-phase runs says of them: epochs, seeds, scale, and where the phase begins."""

from collections.abc import Callable, Mapping
from itertools import pairwise

import pandas as pd

from nclib import tables
from nclib.plots.style import mean_with_interval

WRONG = ["error", "nc4_mismatch", "nc4_mismatch_train_means"]
"""Shares of samples that vanish in the terminal phase."""
TRAINING_IMAGES = {
    "fashion_mnist": 60_000, "mnist": 60_000, "kmnist": 60_000, "cifar10": 50_000, "mnist1d": 4_000,
}  # fmt: skip
"""Sizes of the training splits: what a run's `train_size` is a subset of."""
NETWORKS = {
    "resnet18": "ResNet-18", "vgg11": "VGG-11", "densenet40": "DenseNet-40", "mlp": "perceptron",
}  # fmt: skip
"""What each network that the study trains is called."""


def seeds_by_epochs(
    table: pd.DataFrame, metric: str, *, split: str = "train", layer: str = "features", labels: str = "clean"
) -> pd.DataFrame:
    """One metric, a row a seed and a column an epoch.

    Raises KeyError when the table holds no such number and ValueError when a seed stands for several runs:
    a curve is drawn of what was measured under one set of parameters, or not at all.
    """
    rows = tables.select(table, metric=metric, split=split, layer=layer, labels=labels)
    if rows.empty:
        raise KeyError(f"the table holds no {metric!r} of {split}/{layer}")
    if rows.duplicated(["seed", "epoch"]).any():
        raise ValueError(f"{metric}: a seed stands for several runs; select one set of parameters first")
    return rows.pivot(index="seed", columns="epoch", values="value")


def at_epoch(
    table: pd.DataFrame, metric: str, epoch: int, *, split: str = "train", layer: str = "features"
) -> pd.Series:
    """One metric by seed at exactly this epoch; KeyError when a seed lacks it."""
    frame = seeds_by_epochs(table, metric, split=split, layer=layer)
    if epoch not in frame or frame[epoch].isna().any():
        raise KeyError(f"{metric!r} of {split}/{layer} was not measured at epoch {epoch} for every seed")
    return frame[epoch]


def onset(table: pd.DataFrame, at_most: float = 0.0, *, labels: str = "clean") -> pd.Series:
    """By seed, the first measured epoch with training error at most `at_most`; NaN where there is none."""
    reached = seeds_by_epochs(table, "error", labels=labels) <= at_most
    return reached.idxmax(axis=1).where(reached.any(axis=1)).astype(float)


def last_epoch(table: pd.DataFrame) -> int:
    """The epoch at which training was planned to end, which every seed must have reached (ValueError).

    Of a table without a column `epochs`, as one's own has none, the last measured one.
    """
    reached = set(table.groupby("run").epoch.max())
    planned = set(table["epochs"]) if "epochs" in table else {max(reached)}
    if len(planned) != 1 or planned != reached:
        raise ValueError(f"runs end at epochs {sorted(reached)}, planned were {sorted(planned)}")
    return int(planned.pop())


def images(table: pd.DataFrame) -> str:
    """How many training images (or signals) were used, in words that say "a subset" where it was one."""
    dataset, size = only(table, "dataset"), int(only(table, "train_size"))
    if dataset not in TRAINING_IMAGES:
        return f"{size:,} images of {dataset} (a subset)"
    full, kind = TRAINING_IMAGES[dataset], "signals" if dataset == "mnist1d" else "images"
    return (
        f"all {full:,} training {kind}"
        if size >= full
        else f"a subset of {size:,} of {full:,} training {kind}"
    )


def scale(table: pd.DataFrame) -> str:
    """One line for the top of a figure: network, width, images, epochs, seeds."""
    name = NETWORKS[only(table, "architecture")]
    return (
        f"{only(table, 'dataset')}, {name}, width {only(table, 'width')}, {images(table)}, "
        f"{only(table, 'epochs')} epochs, n = {table.seed.nunique()} seeds"
    )


def drops(table: pd.DataFrame) -> list[int]:
    """Epochs after which the step schedule lowers the learning rate; none under another schedule, or an untold one."""
    if "schedule" not in table:
        return []
    end = last_epoch(table)
    return sorted({end // 3, 2 * end // 3} - {0}) if only(table, "schedule") == "step" else []


def drops_inside(table: pd.DataFrame) -> pd.Series:
    """By seed, how many learning-rate drops the terminal phase has; one after its first epoch is inside."""
    return onset(table).map(lambda start: sum(drop >= start for drop in drops(table)))


def through_the_phase(
    found: Mapping[str, pd.DataFrame], shown: Mapping[str, str], left: Callable[[pd.Series], pd.Series]
) -> pd.DataFrame:
    """What the terminal phase of each of these is like and what happens in it, a column each.

    `shown` maps a row's name to a metric of training images: last epoch over first measured one without an error,
    geometric mean over seeds with its 95 % t-interval. `left` gives, by epoch, what a run's recurrence leaves of the
    sum of the classifier's rows. What has a seed that never comes to zero training error is left out.
    """
    columns = {}
    for label, rows in found.items():
        begins, last, remains = onset(rows), last_epoch(rows), left(rows.iloc[0])
        if begins.isna().any():
            continue
        columns[label] = {
            "epochs in it, by seed": ", ".join(f"{last - begin:.0f}" for begin in begins),
            "drops of the rate in it, by seed": ", ".join(map(str, drops_inside(rows))),
            "left of NC0 by the recurrence, by seed": ", ".join(
                f"{remains[last] / remains[begin]:.3g}" for begin in begins
            ),
        }
        for name, metric in shown.items():
            values = seeds_by_epochs(rows, metric)
            fell = pd.Series(
                {seed: values.loc[seed, last] / values.loc[seed, at] for seed, at in begins.items()}
            )
            columns[label][f"{name}, end over beginning"] = mean_with_interval(fell, log=True)
    return pd.DataFrame(columns)


def only(table: pd.DataFrame, parameter: str) -> object:
    """The one value that a parameter has in this table; ValueError when it has several."""
    values = table[parameter].unique()
    if len(values) != 1:
        raise ValueError(f"{parameter} takes {len(values)} values here: select one set of parameters first")
    return values[0]


def one_sample(table: pd.DataFrame) -> float:
    """The share of one training sample; of a table without `train_size` the smallest above zero that went wrong.

    Where nothing ever did, 0.01.
    """
    if "train_size" in table:
        return 1 / float(only(table, "train_size"))
    wrong = table[table.metric.isin(WRONG) & (table.value > 0)].value
    return float(wrong.min()) if len(wrong) else 0.01


def four_epochs(measured: list[int], start: float) -> list[int]:
    """First, last, two measured epochs between: `start` if it is one, then the middle of a longest stretch.

    All of them when fewer than four were measured.
    """
    measured = sorted(int(e) for e in measured)
    if len(measured) <= 4:
        return measured
    chosen = {0, len(measured) - 1}
    if start in measured:
        chosen.add(measured.index(int(start)))
    while len(chosen) < 4:  # measured epochs are even on a log axis: halve the longest stretch
        places = sorted(chosen)
        low, high = max(pairwise(places), key=lambda pair: pair[1] - pair[0])
        chosen.add((low + high) // 2)
    return [measured[i] for i in sorted(chosen)]
