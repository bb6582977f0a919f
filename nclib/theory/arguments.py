"""What the functions of this package take for sizes, weight decays, labels and points; else ValueError in one line.

Numbers come back as Python's own, so that numpy's and torch's scalars do as well, and labels as int64.
"""

from math import isfinite
from operator import index

import torch
from jaxtyping import Int
from torch import Tensor


def constants(num_classes: object, per_class: object, **lambdas: object) -> tuple:
    """(K, n) and every weight decay in the order given; ValueError for K < 2, n < 1 or a decay that is not positive."""
    return size("num_classes", num_classes, 2), size("per_class", per_class, 1), *positive(**lambdas)


def size(name: str, value: object, least: int) -> int:
    """A whole number of at least `least`: anything with `__index__` but a bool. ValueError, naming it, otherwise."""
    try:
        whole = None if _is_bool(value) else index(value)
    except TypeError:
        whole = None
    if whole is None or whole < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return whole


def positive(**values: object) -> tuple[float, ...]:
    """Positive finite numbers, in the order given: what `float` takes but a str. ValueError, naming it, otherwise."""
    return tuple(
        _number(name, value, "positive", lambda number: number > 0) for name, value in values.items()
    )


def non_negative(**values: object) -> tuple[float, ...]:
    """The same, zero included."""
    return tuple(
        _number(name, value, "at least 0", lambda number: number >= 0) for name, value in values.items()
    )


def labels(y: Tensor, num_classes: int) -> Int[Tensor, " N"]:
    """Labels (N,) as int64. ValueError unless they are integers, of any width, with 0 <= y < num_classes."""
    if y.ndim != 1 or len(y) == 0:
        raise ValueError(f"y must be (N,) with N >= 1, got {tuple(y.shape)}")
    if y.is_floating_point() or y.is_complex() or _is_bool(y):
        raise ValueError(f"y must hold integers, got {y.dtype}")
    y = y.long()
    least, most = (int(end) for end in y.aminmax())
    if least < 0 or most >= num_classes:
        found = least if least < 0 else most
        raise ValueError(f"labels must be from 0 to {num_classes - 1}, got {found}")
    return y


def finite(**arrays: Tensor | None) -> None:
    """ValueError, naming it, for an array with an entry that is not finite."""
    for name, array in arrays.items():
        if array is not None and not bool(array.isfinite().all()):
            raise ValueError(f"{name} has entries that are not finite")


def shapes(W: Tensor, H: Tensor, b: Tensor | None, y: Tensor) -> None:
    """ValueError unless W is (..., K, d), H (..., N, d), b (..., K) or None, and y (N,)."""
    K, d = W.shape[-2:]
    if H.shape[-2:] != (len(y), d) or (b is not None and b.shape[-1:] != (K,)):
        found = f"H {tuple(H.shape)}, b {None if b is None else tuple(b.shape)}, y {tuple(y.shape)}"
        raise ValueError(f"with W {(K, d)}, H must be (N, {d}), b ({K},) and y (N,); got {found}")


def point(W: Tensor, H: Tensor, b: Tensor | None, y: Tensor) -> Int[Tensor, " N"]:
    """The labels of a point as int64, once its shapes fit, its entries are finite and its labels are classes."""
    shapes(W, H, b, y)
    finite(W=W, H=H, b=b)
    return labels(y, W.shape[-2])


def _is_bool(value: object) -> bool:
    return isinstance(value, bool) or getattr(value, "dtype", None) in (torch.bool, bool)


def _number(name: str, value: object, wanted: str, allows) -> float:
    try:
        number = None if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: a tensor of several entries
        number = None
    if number is None or not (isfinite(number) and allows(number)):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return number
