"""Every metric of features that are at hand: arrays and labels in, numbers by name out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from nclib.metrics.nc import Decisions, Head, collapse_metrics
from nclib.stats import ClassStats, as_tensor, check_labels, missing_classes


def _as_tensor(value, name: str, integer: bool = False) -> Tensor:
    tensor = as_tensor(value)
    if integer:
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise ValueError(f"{name} must be integers, got {tensor.dtype}")
        return tensor.long()
    if not tensor.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {tensor.dtype}")
    return tensor


def _as_head(weight, bias, K: int, d: int) -> Head | None:
    if weight is None:
        if bias is not None:
            raise ValueError("a bias was given without a weight: pass both, or neither")
        return None
    W = _as_tensor(weight, "weight").double()
    if W.shape != (K, d):
        raise ValueError(f"weight must be (K, d) = ({K}, {d}), got {tuple(W.shape)}")
    b = None if bias is None else _as_tensor(bias, "bias").double()
    if b is not None and b.shape != (K,):
        raise ValueError(f"bias must be (K,) = ({K},), got {tuple(b.shape)}")
    for name, value in (("weight", W), ("bias", b)):
        if value is not None and not value.isfinite().all():
            raise ValueError(f"{name} contains NaN or infinite values")
    return Head(W, b)


def _restrict(features, labels, weight, bias, classes: Sequence[int], K: int):
    """Keep the samples and classifier rows of `classes`, renumbered 0, 1, ... in the order given."""
    chosen = [int(c) for c in classes]
    if len(set(chosen)) != len(chosen) or not all(0 <= c < K for c in chosen):
        raise ValueError(f"classes must be distinct and lie in [0, {K}), got {list(classes)}")
    renumber = torch.full((K,), -1, dtype=torch.long, device=labels.device)
    renumber[chosen] = torch.arange(len(chosen), device=labels.device)
    labels = renumber[labels]
    keep = labels >= 0
    n = torch.bincount(labels[keep], minlength=len(chosen))
    if (n == 0).any():
        raise ValueError(missing_classes(n, names=chosen))
    weight = None if weight is None else _as_tensor(weight, "weight")[chosen]
    bias = None if bias is None else _as_tensor(bias, "bias")[chosen]
    return features[keep], labels[keep], weight, bias


def measure_features(
    features, labels, weight=None, bias=None, *, num_classes: int | None = None, classes=None
) -> dict[str, float]:
    r"""Every neural-collapse metric of features, labels and (optionally) a linear classifier.

    features (N, d), labels (N,) integers in [0, K), weight (K, d), bias (K,): numpy arrays or torch tensors
    of any float dtype, computed in float64 in two passes without a d x d matrix. Means are class-centred
    unless a name says otherwise, weights are raw; the formula of each name is in the docstring of the
    function of that name and in the book's notation page. Keys that need a classifier are absent without
    one, `bias_collapse` without a bias.

    `num_classes` defaults to the rows of `weight`, else to the largest label plus one; `classes` restricts
    samples and classifier rows to those classes, renumbered in the order given.

    Raises ValueError saying which: a class without samples, a label out of range, mismatched shapes, a value
    that is not finite, fewer than two classes. What is undefined (one pair's standard deviation at K = 2) is
    NaN.
    """
    H = _as_tensor(features, "features")
    y = _as_tensor(labels, "labels", integer=True).to(H.device)
    if H.ndim != 2 or y.ndim != 1 or len(H) != len(y):
        raise ValueError(
            f"features must be (N, d) and labels (N,), got {tuple(H.shape)} and {tuple(y.shape)}"
        )
    if num_classes is None:
        num_classes = len(weight) if weight is not None else int(y.max()) + 1 if len(y) else 0
    check_labels(y, num_classes)
    if weight is not None and len(weight) != num_classes:
        raise ValueError(f"weight has {len(weight)} rows for {num_classes} classes: they must agree")
    if bias is not None and len(bias) != num_classes:
        raise ValueError(f"bias has {len(bias)} entries for {num_classes} classes: they must agree")
    if classes is not None:
        H, y, weight, bias = _restrict(H, y, weight, bias, classes, num_classes)
        num_classes = len(classes)
    if num_classes < 2:
        raise ValueError(f"neural collapse needs at least two classes, got {num_classes}")
    head = _as_head(weight, bias, num_classes, H.shape[1])
    if head is not None:
        head = Head(head.W.to(H.device), None if head.b is None else head.b.to(H.device))
    stats, X, scores = ClassStats.with_coordinates(H, y, num_classes, None if head is None else head.W)
    decisions = Decisions.from_coordinates(X, stats.M @ stats.basis.T, y, scores, head)
    return collapse_metrics(stats, decisions, head)
