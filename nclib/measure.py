"""From a network and its inputs to rows of the long table, in one forward pass if features fit."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nclib.geometry import one_vs_rest_margin
from nclib.metrics import nc
from nclib.metrics.mse import mse_decomposition, snr_spread
from nclib.modes import in_eval_mode, in_full_precision
from nclib.robustness import deepfool
from nclib.stats import ClassStats
from nclib.streams import classification, measure_kept, measure_stream

FEATURE_MEMORY = 2 * 2**30
"""Bytes of features kept in memory; a split with more passes through the network for every pass over them.

Features that are given to `measure` are in memory already.
"""
_BATCH = 250  # larger ones leave the cache: 1000 images at once take ResNet-18 a third longer on a CPU core


@dataclass(frozen=True)
class Split:
    """A named set of inputs with the label sets to measure it under."""

    name: str
    """What the table's column `split` says: train, test, fresh, train_correct, train_mislabelled."""
    x: Tensor
    labels: Mapping[str, Int[Tensor, " n"]]
    """Label set (`noisy`, `clean`) to labels. Where labels are not corrupted there is one set, `clean`."""
    references: Mapping[str, ClassStats] | None = None
    """Training statistics by label set; given, the split is measured against the *training* means too."""


def measure(
    model: nn.Module,
    split: Split,
    *,
    num_classes: int,
    statistics: dict[str, ClassStats] | None = None,
    H: Float[Tensor, "n d"] | None = None,
) -> Iterator[dict]:
    """Rows of error, loss, margins and every NC metric at the classifier's input, per label set of one split.

    The model is measured in eval mode, without autocast, and each of its modules left in its mode. Features come from
    the network in its own precision, float32 without TF32; everything after that is float64. NC metrics are
    left out where a class has no sample. The class statistics of each label set are put into `statistics`, when given.
    `H` are the split's `features`, where they are at hand.
    """
    fits = len(split.x) * model.feature_dim * model.head.weight.element_size() <= FEATURE_MEMORY
    with in_eval_mode(model):
        if H is None and fits:
            H = torch.cat(list(_features(model, split.x)))
        for name, y in split.labels.items():
            rows, stats = _measure_labels(model, split, name, y, num_classes, H)
            if statistics is not None and stats is not None:
                statistics[name] = stats
            for metric, value in rows.items():
                yield {
                    "split": split.name,
                    "labels": name,
                    "layer": "features",
                    "metric": metric,
                    "value": value,
                }


def _measure_labels(
    model: nn.Module, split: Split, label_set: str, y: Tensor, K: int, H: Tensor | None
) -> tuple[dict[str, float], ClassStats | None]:
    head, reference = head_of(model), (split.references or {}).get(label_set)

    def passes() -> Iterator[tuple[Tensor, Tensor]]:
        batches = _features(model, split.x) if H is None else H.split(_BATCH)
        return zip(batches, y.split(_BATCH), strict=True)

    if torch.bincount(y, minlength=K).min() == 0:
        return classification(head, passes()), None
    if H is None:
        return measure_stream(head, passes, num_classes=K, reference=reference)[:2]
    return measure_kept(head, H, y, num_classes=K, reference=reference)


def features(model: nn.Module, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
    """The classifier's inputs in eval mode, in float64; every module is left in its mode."""
    with in_eval_mode(model):
        return torch.cat([H.double() for H in _features(model, x)])


def class_spectra(
    H: Float[Tensor, "n d"], y: Int[Tensor, " n"], *, num_classes: int
) -> dict[str, Float[Tensor, " _"]]:
    """Eigenvalues of Sigma_W (d) and of Sigma_B (K - 1) of these features, in falling order and float64."""
    stats = ClassStats.of(H, y, num_classes)
    within = torch.linalg.eigvalsh(stats.Sigma_W).flip(0)
    between = torch.linalg.svdvals(stats.M).square()[: num_classes - 1] / num_classes
    return {"sigma_w_eigenvalues": within, "sigma_b_eigenvalues": between}


def head_of(model: nn.Module) -> nc.Head:
    """The network's linear classifier in float64."""
    bias = model.head.bias
    return nc.Head(model.head.weight.detach().double(), None if bias is None else bias.detach().double())


def _features(model: nn.Module, x: Tensor) -> Iterator[Tensor]:
    for batch in x.split(_BATCH):
        with torch.no_grad(), in_full_precision():
            H = model.features(batch)
        yield H


def pooled_layers(model: nn.Module, x: Tensor) -> dict[str, Float[Tensor, "n p"]]:
    """Every named layer's activations in eval mode, averaged over positions, in float64."""
    return _layers(model, x, lambda a: (a.flatten(2).mean(2) if a.ndim > 2 else a).double())


def flattened_layers(model: nn.Module, x: Tensor) -> dict[str, Float[Tensor, "n p"]]:
    """Activations in eval mode of every named layer that has positions, channels and positions as one axis."""
    layers = _layers(model, x, lambda a: a.flatten(1) if a.ndim > 2 else None)
    return {name: a for name, a in layers.items() if a is not None}


@torch.no_grad()
def _layers(model: nn.Module, x: Tensor, of: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor | None]:
    collected: dict[str, list[Tensor | None]] = {}
    with in_eval_mode(model), in_full_precision():
        for batch in x.split(_BATCH):
            for name, a in model.layers(batch).items():
                collected.setdefault(name, []).append(of(a))
    return {name: None if parts[0] is None else torch.cat(parts) for name, parts in collected.items()}


def measure_layers(
    model: nn.Module, split: str, x: Tensor, labels: Mapping[str, Int[Tensor, " n"]], *, num_classes: int
) -> Iterator[dict]:
    """Rows of NC1, NC2 and nearest-class-mean accuracy at every hidden layer, averaged over positions.

    The classifier's input is left to `measure`.
    """
    for layer, H in pooled_layers(model, x).items():
        if layer == "features":
            continue
        for name, y in labels.items():
            if torch.bincount(y, minlength=num_classes).min() == 0:
                continue
            stats, X, _ = ClassStats.with_coordinates(H, y, num_classes)
            decisions = nc.Decisions.from_coordinates(X, stats.M @ stats.basis.T, y, None, None)
            for metric, value in nc.collapse_metrics(stats, decisions).items():
                yield {"split": split, "labels": name, "layer": layer, "metric": metric, "value": value}


def measure_directions(model: nn.Module, split: str, statistics: Mapping[str, ClassStats]) -> Iterator[dict]:
    """Rows of how far apart the directions of class means (per label set), and of classifiers, are.

    `one_vs_rest_margin_*`: see `geometry.one_vs_rest_margin`, which a softmax code maximises. NaN where a class mean
    lies on the mean of all, up to rounding.
    """
    named = [("none", "one_vs_rest_margin_weights", head_of(model).W)]
    named += [
        (name, "one_vs_rest_margin_means", nc.centred_means(stats)) for name, stats in statistics.items()
    ]
    for labels, metric, V in named:
        value = one_vs_rest_margin(V)
        yield {"split": split, "labels": labels, "layer": "features", "metric": metric, "value": value}


def measure_mse(
    model: nn.Module,
    split: str,
    H: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    *,
    labels: str = "clean",
    num_classes: int,
    decay: float,
) -> Iterator[dict]:
    """Rows of the parts of the squared error of these `features`, and of how equal their signals are.

    decay: SGD's weight decay in training by `torch.nn.functional.mse_loss` on one-hot labels, of weight and
    bias alike; the penalty of `mse_decomposition` is K decay / 2. y: the labels trained on, which the rows name
    `labels`.

    Raises ValueError for a class without samples.
    """
    stats = ClassStats.of(H, y, num_classes)
    values = mse_decomposition(stats, head_of(model), num_classes * decay / 2)
    values["snr_spread"] = float(snr_spread(stats))
    for metric, value in values.items():
        yield {"split": split, "labels": labels, "layer": "features", "metric": metric, "value": value}


def measure_robustness(model: nn.Module, split: str, x: Float[Tensor, "n ..."]) -> Iterator[dict]:
    """Rows of how far DeepFool must move the inputs to change the network's decisions, labels aside.

    Distances are in units of x, as the network gets it, and averaged over the inputs on which DeepFool found
    a perturbation; `deepfool_found` is their share, and without any the distances are NaN. An input of zeros has no
    relative distance: it is left out of that mean and median alone.
    """
    with in_full_precision():
        moved = deepfool(model, x)
    relative = moved.relative.double()
    values = {
        "deepfool_relative_mean": relative.nanmean(),
        # not nanmedian, which takes the lower of two middle values
        "deepfool_relative_median": relative.nanquantile(0.5),
        "deepfool_norm_mean": moved.norm.double().nanmean(),
        "deepfool_found": moved.found.double().mean(),
    }
    for metric, value in values.items():
        yield {"split": split, "labels": "none", "layer": "all", "metric": metric, "value": float(value)}


def model_norms(model: nn.Module) -> Iterator[dict]:
    """Rows of what belongs to no sample: number and norm of the parameters, the classifier's, and its rows' sum.

    `nc0_row_sum`: |W^T 1|, which the mean of the gradient leaves to weight decay (Zhao et al., 2026).
    """
    parameters = [p.detach().double() for p in model.parameters()]
    values = {
        "parameters": sum(p.numel() for p in parameters),
        "parameter_norm": sum(float(p.square().sum()) for p in parameters) ** 0.5,
        "weight_norm_squared": float(head_of(model).W.square().sum()),
        "nc0_row_sum": float(torch.linalg.vector_norm(head_of(model).W.sum(0))),
    }
    for metric, value in values.items():
        yield {"split": "none", "labels": "none", "layer": "all", "metric": metric, "value": value}
