r"""The unconstrained-feature model with mean squared error (Tirer & Bruna, 2022).

$$f(W, H, b) = \frac{1}{2N}\|HW^\top + 1b^\top - Y\|_F^2 + \frac{\lambda_W}{2K}\|W\|_F^2
  + \frac{\lambda_H}{2N}\|H\|_F^2,$$

Y the one-hot labels (N, K). The bias is absent or free: it is not regularised. Layout as in
`nclib.theory.unconstrained`: W (K, d), H (N, d) with one row per sample, b (K,) or None. The objective and its
gradient also take stacks of problems, as leading dimensions of W, H and b. Closed forms assume n samples in each
of K classes, N = Kn, and are in float64.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from nclib.geometry import random_rotation, simplex_etf
from nclib.theory import arguments
from nclib.theory.convex import Certificate, certify


def residual(
    W: Float[Tensor, "*batch K d"],
    H: Float[Tensor, "*batch N d"],
    b: Float[Tensor, "*batch K"] | None,
    y: Int[Tensor, " N"],
) -> Float[Tensor, "*batch N K"]:
    """What the logits are off their one-hot labels, HW^T + 1b^T - Y. ValueError for shapes that do not fit."""
    arguments.shapes(W, H, b, y)
    Z = H @ W.mT
    return (Z if b is None else Z + b.unsqueeze(-2)) - functional.one_hot(y, W.shape[-2])


def objective(
    W: Float[Tensor, "*batch K d"],
    H: Float[Tensor, "*batch N d"],
    b: Float[Tensor, "*batch K"] | None,
    y: Int[Tensor, " N"],
    *,
    lambda_W: float,
    lambda_H: float,
) -> Float[Tensor, "*batch"]:
    """f(W, H, b), differentiable by autograd."""
    error, features = residual(W, H, b, y).square().sum((-2, -1)), H.square().sum((-2, -1))
    weights = W.square().sum((-2, -1))
    return (error + lambda_H * features) / (2 * len(y)) + lambda_W * weights / (2 * W.shape[-2])


def gradient(
    W: Float[Tensor, "*batch K d"],
    H: Float[Tensor, "*batch N d"],
    b: Float[Tensor, "*batch K"] | None,
    y: Int[Tensor, " N"],
    *,
    lambda_W: float,
    lambda_H: float,
) -> tuple[Float[Tensor, "*batch K d"], Float[Tensor, "*batch N d"], Float[Tensor, "*batch K"] | None]:
    """The gradient of f by (W, H, b); the last is None without a bias."""
    G = residual(W, H, b, y) / len(y)
    by_W, by_H = G.mT @ H + lambda_W / W.shape[-2] * W, G @ W + lambda_H / len(y) * H
    return by_W, by_H, None if b is None else G.sum(-2)


@dataclass(frozen=True, kw_only=True)
class GlobalMinimum:
    """The minimum of f and what every minimiser shares."""

    num_classes: int
    per_class: int
    lambda_W: float
    lambda_H: float
    bias: bool
    rank: int
    """The number of directions among classes that d dimensions let the logits have."""
    value: float
    """The minimum of f."""
    signal: float
    """1 - c, what decay leaves of each direction of the one-hot labels; 0 for the zero solution."""
    rho: float
    """Scale of the features: the class means' Gram matrix is rho times a projection of this rank."""
    W_norm_squared: float
    H_norm_squared: float

    @property
    def collapsed(self) -> bool:
        """Whether the minimisers show neural collapse (True) or are zero (False)."""
        return self.signal > 0

    def construct(
        self, d: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "K d"], Float[Tensor, "N d"], Float[Tensor, " K"] | None]:
        r"""One minimiser (W, H, b) in d dimensions, rotated at random if a `generator` is given.

        Rows of H are $\sqrt\rho$ times their class's row of a frame F, and $W = \sqrt{\lambda_H/\lambda_W}\,\bar H$.
        F is orthonormal at rank K and a simplex at rank K - 1. At a lower rank the minimisers are many; this one
        is a simplex of the first rank + 1 classes. b is 1/K, or None without a bias. Samples are sorted by class.
        ValueError where d is less than the rank.
        """
        K, rank = self.num_classes, self.rank
        if d < rank:
            raise ValueError(f"a minimiser of rank {rank} needs d >= {rank} dimensions, got d={d}")
        # Columns of Helmert's basis are orthonormal; the simplex carries them times the root of K / (K - 1).
        basis = torch.eye(K, dtype=torch.float64) if rank == K else sqrt((K - 1) / K) * simplex_etf(K)
        means = sqrt(self.rho) * functional.pad(basis[:, :rank], (0, d - rank))
        if generator is not None:
            means = means @ random_rotation(d, generator)
        b = torch.full((K,), 1 / K, dtype=torch.float64) if self.bias else None
        W = sqrt(self.lambda_H) / sqrt(self.lambda_W) * means
        return W, means.repeat_interleave(self.per_class, dim=0), b


def global_minimum(
    *,
    num_classes: int,
    per_class: int,
    lambda_W: float,
    lambda_H: float,
    bias: bool = True,
    d: int | None = None,
) -> GlobalMinimum:
    r"""The global minimum of f in closed form, without a bias or with a free one.

    Balanced factors make f the partner $\frac{1}{2N}\|Z - Y\|_F^2 + \tau\|Z\|_*$ of
    `nclib.theory.convex`, $\tau = \sqrt{\lambda_W\lambda_H/n}/K$. Y has K singular values $\sqrt n$, and a free bias
    takes away the one along 1, leaving R = K or R = K - 1. By von Neumann's inequality the best Z has Y's singular
    vectors, so r = min(d, R) singular values are thresholded softly to $\sqrt n(1 - c)$ with
    $c = \sqrt{\lambda_W\lambda_H}$, and the others stay zero:

    $$f^* = \frac1{2K}\bigl[r\,c(2 - c) + R - r\bigr],\quad \rho = (1 - c)\sqrt{\lambda_W/\lambda_H},\quad
    \|H\|^2 = nr\rho,\quad \|W\|^2 = r\rho\,\lambda_H/\lambda_W .$$

    For c >= 1 the minimiser is zero and $f^* = R/2K$; at c = 1 the two agree. Without `d` it is taken large enough,
    r = R. Then $\bar H\bar H^\top$ is $\rho I$ without a bias, and $\rho(I - J/K)$ with b = 1/K otherwise. With
    d < R the minimum is higher, and the certificate, which asks for the partner's, is false. Tirer & Bruna (2022),
    Theorems 3.1 and 3.2; smaller d is ours. ValueError when K < 2, n < 1, d < 1 or a lambda <= 0.
    """
    K, n, lambda_W, lambda_H = arguments.constants(
        num_classes, per_class, lambda_W=lambda_W, lambda_H=lambda_H
    )
    if d is not None:
        d = arguments.size("d", d, 1)
    directions = K - 1 if bias else K
    rank = directions if d is None else min(d, directions)
    c = sqrt(lambda_W) * sqrt(lambda_H)
    # 1 - c is all cancellation next to the threshold, so 1 - c^2 is formed exactly first.
    signal = float(max(0, 1 - Fraction(lambda_W) * Fraction(lambda_H))) / (1 + c)
    ratio = sqrt(lambda_W) / sqrt(lambda_H)
    per_direction = c * (2 - c) if signal > 0 else 1.0
    return GlobalMinimum(
        num_classes=K,
        per_class=n,
        lambda_W=lambda_W,
        lambda_H=lambda_H,
        bias=bias,
        rank=rank,
        value=(rank * per_direction + (directions - rank)) / (2 * K),
        signal=signal,
        rho=signal * ratio,
        W_norm_squared=rank * signal / ratio,
        H_norm_squared=n * rank * signal * ratio,
    )


def certificate(
    W: Float[Tensor, "K d"],
    H: Float[Tensor, "N d"],
    b: Float[Tensor, " K"] | None,
    y: Int[Tensor, " N"],
    *,
    lambda_W: float,
    lambda_H: float,
    tolerance: float = 1e-6,
) -> Certificate:
    r"""Whether a critical point is global: it is if $\|R/N\|_2 \le \tau$, R the residual.

    $\tau = \sqrt{(\lambda_W/K)(\lambda_H/N)}$ is the weight of the nuclear norm in f's convex partner. The converse
    holds where d leaves room for the partner's minimiser, d >= K or, with a bias, d >= K - 1. See
    `nclib.theory.convex`. ValueError as in `nclib.theory.zhu2021.certificate`.
    """
    lambda_W, lambda_H = arguments.positive(lambda_W=lambda_W, lambda_H=lambda_H)
    y = arguments.point(W, H, b, y)
    G = residual(W, H, b, y) / len(y)
    by_parameter = gradient(W, H, b, y, lambda_W=lambda_W, lambda_H=lambda_H)
    return certify(G, W, H, by_parameter, lambda_W / len(W), lambda_H / len(y), tolerance)
