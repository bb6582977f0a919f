"""What is measured of a network each time that terminal-phase training pauses."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nclib.geometry import simplex_picture
from nclib.measure import (
    Split,
    class_spectra,
    features,
    head_of,
    measure,
    measure_layers,
    measure_mse,
    model_norms,
)
from nclib.models import Network
from nclib.stats import ClassStats
from nclib.theory.unconstrained import objective
from nclib.theory.zhu2021 import global_minimum

if TYPE_CHECKING:
    from nclib.studies import terminal_phase

SHOWN = 20
"""Training images of each class whose features are kept, at every measured epoch, in the simplex's own axes."""


def snapshot(
    model: Network,
    train: Split,
    test: Split,
    params: "terminal_phase.Params",
    *,
    num_classes: int,
    every_layer: bool,
) -> tuple[list[dict], dict[str, object]]:
    """Rows, and with `pictures` arrays, of a network at rest; of hidden layers where `every_layer` is asked for.

    The first labels of `train` are those trained on. DeepFool's distances are left to `measure.measure_robustness`.
    """
    K, (given, y) = num_classes, next(iter(train.labels.items()))
    H, statistics = features(model, train.x), {}
    rows = list(measure(model, train, num_classes=K, statistics=statistics, H=H))
    stats: ClassStats = statistics[given]
    rows += measure(model, replace(test, references={"clean": stats}), num_classes=K)
    rows += model_norms(model)
    if params.feature_decay:
        rows += _peeled_objective(model, H, y, params, num_classes=K, labels=given)
    if params.loss == "mse":
        rows += measure_mse(model, "train", H, y, labels=given, num_classes=K, decay=params.weight_decay)
    if every_layer:
        rows += measure_layers(model, "train", train.x, train.labels, num_classes=K)
        rows += measure_layers(model, "test", test.x, test.labels, num_classes=K)
    if not params.pictures:
        return rows, {}
    W, (error,) = model.head.weight.detach(), training_errors(rows, given)
    arrays = {"error": error} | simplex_picture(stats.mu, W, H[shown(y, K)])
    return rows, arrays | (class_spectra(H, y, num_classes=K) if every_layer else {})


def shown(y: Tensor, num_classes: int) -> Tensor:
    """Where the first `SHOWN` samples of each class are."""
    return torch.cat([(y == k).nonzero().flatten()[:SHOWN] for k in range(num_classes)])


def training_errors(rows: list[dict], labels: str) -> list[float]:
    """The training errors that these rows hold, on labels of this name."""
    wanted = {"metric": "error", "split": "train", "labels": labels}
    return [row["value"] for row in rows if wanted.items() <= row.items()]


def _peeled_objective(
    model: Network, H: Tensor, y: Tensor, params: "terminal_phase.Params", *, num_classes: int, labels: str
) -> Iterator[dict]:
    """Rows of f(W, H, b) at the network's own features, and of its gap to the minimum over all features.

    The closed form of that minimum is for classes of one size and features of at least K - 1 dimensions.
    """
    head = head_of(model)
    lambdas = {"lambda_W": params.weight_decay, "lambda_H": params.feature_decay / len(y)}
    values = {"objective": float(objective(head.W, H, head.b, y, lambda_b=params.weight_decay, **lambdas))}
    sizes = torch.bincount(y, minlength=num_classes)
    if bool((sizes == sizes[0]).all()) and model.feature_dim >= num_classes - 1 and params.weight_decay:
        lowest = global_minimum(num_classes=num_classes, per_class=int(sizes[0]), **lambdas).value
        values["objective_gap"] = (values["objective"] - lowest) / lowest
    for metric, value in values.items():
        yield {"split": "train", "labels": labels, "layer": "all", "metric": metric, "value": value}
