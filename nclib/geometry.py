"""The simplex equiangular tight frame, other polytopes, and what a feature space of dimension d allows."""

from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor


def _check_classes(K: int, at_least: int = 2) -> None:
    if not isinstance(K, int) or isinstance(K, bool) or at_least > K:
        raise ValueError(f"K must be an integer of at least {at_least}, got {K!r}")


def simplex_gram(K: int) -> Float[Tensor, "K K"]:
    r"""The Gram matrix of a unit-norm simplex ETF, $\frac{K}{K-1}(I - \frac1K 11^\top)$.

    Ones on the diagonal, $-1/(K-1)$ elsewhere; rank $K-1$; Frobenius norm $K/\sqrt{K-1}$. float64.
    Source: Papyan, Han & Donoho (2020), Definition 1.
    """
    _check_classes(K)
    return (K * torch.eye(K, dtype=torch.float64) - 1) / (K - 1)


def simplex_etf(
    K: int, d: int | None = None, *, generator: torch.Generator | None = None
) -> Float[Tensor, "K d"]:
    r"""Rows that are the $K$ vertices of a simplex ETF in $\mathbb{R}^d$: unit norms, cosines $-1/(K-1)$.

    Without `d` the smallest dimension $K-1$ is used; with a `generator` the frame is rotated at random.
    Raises ValueError when $d < K-1$, where no such frame exists. float64.
    """
    _check_classes(K)
    d = K - 1 if d is None else d
    if d < K - 1:
        raise ValueError(f"a simplex ETF of K={K} vectors needs d >= {K - 1} dimensions, got d={d}")
    vertices = torch.zeros(K, d, dtype=torch.float64)
    # Helmert's contrasts are an orthonormal basis of the complement of 1: exact, and without an eigensolver's
    # arbitrary signs.
    for k in range(1, K):
        vertices[:k, k - 1] = 1 / sqrt(k * (k + 1))
        vertices[k, k - 1] = -k / sqrt(k * (k + 1))
    vertices *= sqrt(K / (K - 1))
    return vertices if generator is None else vertices @ random_rotation(d, generator)


def orthoplex(K: int, d: int | None = None) -> Float[Tensor, "K d"]:
    r"""Rows $\pm e_j$: $K$ vertices of the cross-polytope in $\mathbb{R}^d$, largest cosine 0, $K \le 2d$.

    Without `d` the smallest dimension $\lceil K/2 \rceil$ is used. Raises ValueError when $K > 2d$. float64.
    """
    _check_classes(K)
    d = -(-K // 2) if d is None else d
    if 2 * d < K:
        raise ValueError(f"an orthoplex with K={K} vertices needs d >= {-(-K // 2)} dimensions, got d={d}")
    axes = torch.eye(d, dtype=torch.float64)
    return torch.cat([axes, -axes])[:K] if d < K else axes[:K]


def regular_polygon(K: int) -> Float[Tensor, "K 2"]:
    """Rows equally spaced on the unit circle: the softmax code in two dimensions. float64."""
    _check_classes(K)
    angle = torch.arange(K, dtype=torch.float64) * (2 * torch.pi / K)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def random_rotation(d: int, generator: torch.Generator) -> Float[Tensor, "d d"]:
    """An orthogonal matrix drawn uniformly (Haar) from `generator`. float64."""
    Q, R = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=generator))
    return Q * R.diagonal().sign()  # without the signs QR's convention would bias the draw


def nc2_gram_floor(K: int, d: int) -> float:
    r"""The smallest $\|G - \frac{K}{K-1}(I - \frac1K 11^\top)\|_F$ over Gram matrices $G$ of $K$ unit vectors
    in $\mathbb{R}^d$: $K\sqrt{1/d - 1/(K-1)}$ for $d < K-1$, and 0 from $d = K-1$ on.

    $\mathrm{tr}\,G = K$ and rank at most $d$ force $\|G\|_F^2 \ge K^2/d$; zero-sum unit-norm tight frames
    attain it.
    Raises ValueError for d < 1.
    """
    _check_classes(K)
    if d < 1:
        raise ValueError(f"d must be at least 1, got {d}")
    return K * sqrt(max(0.0, 1 / d - 1 / (K - 1)))
