"""One function per mathematical property that the metrics are held to."""

import math
from collections.abc import Callable

import torch
from samplers import generator, normal
from torch import Tensor

from nclib import measure_features
from nclib.geometry import random_rotation, simplex_gram
from nclib.metrics.nc import Decisions, Head, collapse_metrics
from nclib.stats import ClassStats

ROUNDING = 1e-12
"""What is left of an exact zero after a few hundred float64 operations on numbers of order one."""


def assert_close(value: float, expected: float, rel: float = 1e-9, what: str = "") -> None:
    """Equal up to `rel` of the expected value, both rounding errors of zero, or both NaN."""
    value, expected = float(value), float(expected)
    same = math.isclose(value, expected, rel_tol=rel, abs_tol=1e-14)
    assert same or (math.isnan(value) and math.isnan(expected)), f"{what} {value!r} is not {expected!r}"


def assert_vanishes(value: float, tolerance: float = ROUNDING) -> None:
    """Zero up to rounding."""
    assert abs(float(value)) <= tolerance, f"{float(value)!r} does not vanish"


def assert_far_from_zero(value: float, least: float = 1e-3) -> None:
    """The control of `assert_vanishes`: many orders of magnitude above rounding."""
    assert float(value) > least, f"{float(value)!r} is not far from zero"


def assert_same(values: dict[str, float], expected: dict[str, float], rel: float = 1e-9) -> None:
    """The same names, and under each the same value."""
    assert values.keys() == expected.keys(), values.keys() ^ expected.keys()
    for name, value in expected.items():
        assert_close(values[name], value, rel, name)


def assert_same_statistics(a: ClassStats, b: ClassStats, rel: float = 1e-11) -> None:
    """Equal counts, means and scatter."""
    assert a.basis is None and b.basis is None
    for name in ("n", "mu", "S_W", "within"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=rel, atol=rel, msg=name)


def assert_rotation_invariant(H: Tensor, y: Tensor, W: Tensor, b: Tensor) -> None:
    """h -> Q^T h and W -> W Q, with Q orthogonal, change nothing."""
    Q = random_rotation(H.shape[1], generator(11))
    assert_same(measure_features(H @ Q, y, W @ Q, b), measure_features(H, y, W, b))


def assert_translation_invariant(H: Tensor, y: Tensor, W: Tensor, b: Tensor) -> None:
    """h -> h + t changes nothing, once the bias takes W t back."""
    t = 5 * normal(H.shape[1], seed=12)
    assert_same(measure_features(H + t, y, W, b - W @ t), measure_features(H, y, W, b))


def assert_scale_invariant(H: Tensor, y: Tensor, W: Tensor, b: Tensor, factor: float = 37.0) -> None:
    """h -> c h with b -> c b changes nothing but the bias's own metric, which is in units of the logits."""
    expected = measure_features(H, y, W, b)
    scaled = measure_features(factor * H, y, W, factor * b)
    assert_close(scaled.pop("bias_collapse"), factor * expected.pop("bias_collapse"))
    assert_same(scaled, expected)


def assert_weight_scale_invariant(H: Tensor, y: Tensor, W: Tensor, b: Tensor, factor: float = 0.03) -> None:
    """W -> c W with b -> c b changes nothing but the bias's own metric."""
    expected = measure_features(H, y, W, b)
    scaled = measure_features(H, y, factor * W, factor * b)
    assert_close(scaled.pop("bias_collapse"), factor * expected.pop("bias_collapse"))
    assert_same(scaled, expected)


def assert_relabelling_invariant(H: Tensor, y: Tensor, W: Tensor, b: Tensor) -> None:
    """Renaming the classes, with the classifier's rows moved along, changes nothing."""
    new_name = torch.randperm(len(W), generator=generator(13))
    old_name = new_name.argsort()
    assert_same(measure_features(H, new_name[y], W[old_name], b[old_name]), measure_features(H, y, W, b))


def assert_order_invariant(H: Tensor, y: Tensor, W: Tensor, b: Tensor) -> None:
    """The order of the samples does not matter."""
    order = torch.randperm(len(y), generator=generator(14))
    assert_same(measure_features(H[order], y[order], W, b), measure_features(H, y, W, b))


def assert_repetition_invariant(H: Tensor, y: Tensor, W: Tensor, b: Tensor) -> None:
    """Every sample twice changes nothing: within-class scatter is divided by N, not by N - K."""
    assert_same(measure_features(H.repeat(2, 1), y.repeat(2), W, b), measure_features(H, y, W, b))


def streamed(
    H: Tensor, y: Tensor, W: Tensor | None, b: Tensor | None, K: int, batch: int
) -> dict[str, float]:
    """The metrics of a stream: batches added up, the decisions in a second pass."""
    head = None if W is None else Head(W.double(), None if b is None else b.double())
    batches = list(zip(H.split(batch), y.split(batch), strict=True))
    stats = _sum(ClassStats.of(h, labels, K) for h, labels in batches)
    decisions = _sum(Decisions.of(stats, head, h, labels) for h, labels in batches)
    return collapse_metrics(stats, decisions, head)


def assert_split_invariant(H: Tensor, y: Tensor, W: Tensor, b: Tensor, batch: int) -> None:
    """A stream in batches gives what the features in memory give."""
    assert_same(streamed(H, y, W, b, len(W), batch), measure_features(H, y, W, b))


def assert_simplex(V: Tensor, tolerance: float = ROUNDING) -> None:
    """Unit rows with all cosines -1/(K-1)."""
    torch.testing.assert_close(V @ V.T, simplex_gram(len(V)), rtol=0, atol=tolerance)


def assert_orthogonal(Q: Tensor, tolerance: float = ROUNDING) -> None:
    """Q^T Q = 1."""
    torch.testing.assert_close(Q.T @ Q, torch.eye(len(Q)).double(), rtol=0, atol=tolerance)


def assert_similarity_invariant(similarity: Callable[[Tensor, Tensor], float], x: Tensor, y: Tensor) -> None:
    """Rotation, scale and shift of either side, and one order of the samples for another, change nothing."""
    expected = similarity(x, y)
    order = torch.randperm(len(x), generator=generator(15))
    for side, (a, b) in {
        "rotation of x": (x @ random_rotation(x.shape[1], generator(16)), y),
        "rotation of y": (x, y @ random_rotation(y.shape[1], generator(17))),
        "scale of x": (250 * x, y),
        "scale of y": (x, -0.004 * y),
        "shift of x": (x + 9 * normal(x.shape[1], seed=18), y),
        "shift of y": (x, y - 4),
        "order": (x[order], y[order]),
        "exchange": (y, x),
    }.items():
        assert_close(similarity(a, b), expected, 1e-8, side)


def _sum(items):
    first, *others = items
    return sum(others, start=first)
