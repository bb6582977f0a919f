"""Similarity of representations: centred kernel alignment (Kornblith et al., 2019), and Procrustes beside it."""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from nclib.stats import ClassStats, as_tensor


def cka(
    x: Num[Tensor, "n p"] | np.ndarray,
    y: Num[Tensor, "n q"] | np.ndarray,
    *,
    kernel: Literal["linear", "rbf"] = "linear",
    debiased: bool = False,
    bandwidth: float = 1.0,
    median: Literal["all", "offdiag"] = "all",
) -> float:
    r"""Similarity of two representations of the same n samples,
    $\mathrm{HSIC}(K,L)/\sqrt{\mathrm{HSIC}(K,K)\,\mathrm{HSIC}(L,L)}$.

    x (n, p) and y (n, q), any float dtype, computed in float64. Biased HSIC is $\mathrm{tr}(KHLH)$;
    `debiased` takes the unbiased estimator of Song et al. (2012), needs n >= 4, is near 0 for independent
    data and can be negative: nothing is clamped. The linear kernel is worked out over features or over
    samples, whichever is cheaper. The RBF kernel is $\exp(-D^2/2\sigma^2)$: with `median="all"` $\sigma^2$ is
    `bandwidth`$^2$ times the median of all $n^2$ squared distances, the zero diagonal included (Kornblith's
    demo); with `"offdiag"` $\sigma$ is `bandwidth` times the median of the $n(n-1)/2$ distances.

    Invariant to rotation, scale and shift of either side. NaN when one side is constant (debiased, when its
    HSIC estimate is not positive; RBF, when its median distance is zero). Raises ValueError for mismatched or
    too few samples, non-finite values, an unknown kernel or median, and a bandwidth that is not positive.
    """
    X, Y = _paired(x, y)
    n = len(X)
    name, fewest = ("debiased CKA", 4) if debiased else ("CKA", 2)
    if n < fewest:
        raise ValueError(f"{name} needs at least {fewest} samples, got {n}")
    if kernel == "linear":
        if max(X.shape[1], Y.shape[1]) <= n:
            return _ratio(*_hsic_over_features(X, Y, debiased))
        K, L = X @ X.T, Y @ Y.T
    elif kernel == "rbf":
        K, L = _rbf(X, bandwidth, median), _rbf(Y, bandwidth, median)
    else:
        raise ValueError(f'kernel must be "linear" or "rbf", got {kernel!r}')
    if debiased:
        K, L = _u_centred(K), _u_centred(L)
    else:
        K, L = _centred(K), _centred(L)
    return _ratio((K * L).sum(), K.square().sum(), L.square().sum())


def _paired(x, y) -> tuple[Tensor, Tensor]:
    X, Y = _checked(x, "x"), _checked(y, "y")
    if len(X) != len(Y):
        raise ValueError(f"x and y must describe the same samples, got {len(X)} and {len(Y)} rows")
    return X, Y


def _checked(value, name: str) -> Tensor:
    tensor = as_tensor(value).double()
    if tensor.ndim != 2:
        shape = tuple(tensor.shape)
        raise ValueError(f"{name} must be (n, features), got shape {shape}: flatten or pool it first")
    if not tensor.isfinite().all():
        raise ValueError(f"{name} contains NaN or infinite values")
    # Centring first costs nothing (CKA ignores it) and saves the digits a common offset would eat; the first
    # row goes before the mean, so that features that do not vary come out as exact zeros.
    tensor = tensor - tensor[:1]
    return tensor - tensor.mean(0)


def _ratio(xy: Tensor, xx: Tensor, yy: Tensor) -> float:
    xy, xx, yy = float(xy), float(xx), float(yy)
    return xy / math.sqrt(xx) / math.sqrt(yy) if xx > 0 and yy > 0 else math.nan


def _hsic_over_features(X: Tensor, Y: Tensor, debiased: bool) -> tuple[Tensor, Tensor, Tensor]:
    """HSIC of (x, y), (x, x), (y, y) up to a common factor, from p x q products of centred features."""
    n = len(X)
    squares = {"x": X.square().sum(1), "y": Y.square().sum(1)}

    def hsic(A: Tensor, B: Tensor, a: Tensor, b: Tensor) -> Tensor:
        value = (A.T @ B).square().sum()
        if debiased:
            value = value - n / (n - 2) * (a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2))
        return value

    a, b = squares["x"], squares["y"]
    return hsic(X, Y, a, b), hsic(X, X, a, a), hsic(Y, Y, b, b)


def _rbf(X: Float[Tensor, "n p"], bandwidth: float, median: str) -> Float[Tensor, "n n"]:
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")
    squares = X.square().sum(1)
    D2 = (squares[:, None] + squares - 2 * X @ X.T).clamp(min=0).fill_diagonal_(0)
    # numpy's median is the mean of the two middle values; torch.median is the lower one.
    if median == "all":
        median2 = float(np.median(D2.numpy(force=True)))
    elif median == "offdiag":
        i, j = torch.triu_indices(len(X), len(X), offset=1, device=X.device)
        median2 = float(np.median(D2[i, j].sqrt().numpy(force=True))) ** 2
    else:
        raise ValueError(f'median must be "all" or "offdiag", got {median!r}')
    # Where most pairs coincide, as in collapsed classes of unequal size, the kernel has no scale, and the
    # median is the rounding error of a zero.
    if median2 <= torch.finfo(D2.dtype).eps * X.shape[1] * float(squares.max()):
        return torch.full_like(D2, torch.nan)
    return torch.exp(-D2 / (2 * bandwidth**2 * median2))


def _centred(K: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    return K - K.mean(0) - K.mean(1, keepdim=True) + K.mean()


def _u_centred(K: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """U-centring (Székely & Rizzo, 2014): inner products of such matrices are n(n-3) times Song's HSIC."""
    n = len(K)
    K = K.clone().fill_diagonal_(0)
    rows = K.sum(0) / (n - 2)
    K = K - rows - rows[:, None] + K.sum() / ((n - 1) * (n - 2))
    return K.fill_diagonal_(0)


def procrustes_similarity(x: Num[Tensor, "n p"] | np.ndarray, y: Num[Tensor, "n q"] | np.ndarray) -> float:
    r"""How well a rotation maps one representation onto the other, $\|X^\top Y\|_*/(\|X\|_F\|Y\|_F)$, columns centred.

    x (n, p) and y (n, q), computed in float64. 1 exactly when one is a rotated, scaled and shifted copy of the
    other; the orthogonal Procrustes distance of both at unit norm is $\sqrt{2 - 2s}$. NaN when one side is
    constant. Raises ValueError as `cka` does. Ding, Denain & Steinhardt (2021).
    """
    X, Y = _paired(x, y)
    scale = torch.linalg.matrix_norm(X) * torch.linalg.matrix_norm(Y)
    return float(torch.linalg.matrix_norm(X.T @ Y, "nuc") / scale) if scale > 0 else math.nan


def aligned(x: Num[Tensor, "n p"] | np.ndarray, y: Num[Tensor, "n p"] | np.ndarray) -> Float[Tensor, "n p"]:
    r"""x rotated and scaled to be as near to y as it can be, both centred: $s X R$ with orthogonal $R$.

    The orthogonal Procrustes solution: $R = U V^\top$ for $X^\top Y = U S V^\top$ and $s = \mathrm{tr}\,S/\|X\|_F^2$.
    Raises ValueError when x and y differ in shape, and as `cka` does.
    """
    X, Y = _paired(x, y)
    if X.shape != Y.shape:
        raise ValueError(f"a rotation needs equal dimensions, got {X.shape[1]} and {Y.shape[1]}")
    U, S, Vh = torch.linalg.svd(X.T @ Y)
    return X @ (U @ Vh) * (S.sum() / X.square().sum())


def class_parts(
    H: Float[Tensor, "n p"], labels: Int[Tensor, " n"], num_classes: int
) -> tuple[Float[Tensor, "K p"], Float[Tensor, "n p"]]:
    """Class means, and what is left of every sample about its own; in float64.

    Raises ValueError for a class without samples.
    """
    stats = ClassStats.of(H, labels, num_classes)
    stats.require_every_class()
    return stats.mu, H.double() - stats.mu[labels]
