r"""Strong neural collapse under the squared error without weight decay (Mixon, Parshall & Pi, 2020).

Gradient flow of $\frac12\|HW^\top + 1b^\top - Y\|_F^2$ from near zero tends to points where

$$WW^\top = \sqrt n\,\bigl(I - \tfrac1K J\bigr),\qquad H = \tfrac{1}{\sqrt n}\,YW,\qquad b = \tfrac1K 1,$$

with Y the one-hot labels: every row of H is its class's row of W over $\sqrt n$. There the loss is zero; it is zero at
many other points too, and which of them the flow finds depends on how near to zero it starts. Layout as in
`nclib.theory.unconstrained`; functions take stacks of problems, as leading dimensions. Equal class sizes.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nclib.geometry import simplex_etf, simplex_gram
from nclib.theory import arguments, tirer2022


def objective(
    W: Float[Tensor, "*batch K d"],
    H: Float[Tensor, "*batch N d"],
    b: Float[Tensor, "*batch K"] | None,
    y: Int[Tensor, " N"],
) -> Float[Tensor, "*batch"]:
    """Half the summed squared error, differentiable by autograd. ValueError for shapes that do not fit."""
    return tirer2022.residual(W, H, b, y).square().sum((-2, -1)) / 2


def gradient(
    W: Float[Tensor, "*batch K d"],
    H: Float[Tensor, "*batch N d"],
    b: Float[Tensor, "*batch K"] | None,
    y: Int[Tensor, " N"],
) -> tuple[Float[Tensor, "*batch K d"], Float[Tensor, "*batch N d"], Float[Tensor, "*batch K"] | None]:
    """Its gradient by (W, H, b); the last is None without a bias. ValueError for shapes that do not fit."""
    R = tirer2022.residual(W, H, b, y)
    return R.mT @ H, R @ W, None if b is None else R.sum(-2)


@dataclass(frozen=True, kw_only=True)
class Distances:
    """How far a point is from strong neural collapse, condition by condition; norms are Frobenius."""

    W: Float[Tensor, "*batch"]
    r"""$\|WW^\top - \sqrt n(I - J/K)\|$."""
    H: Float[Tensor, "*batch"]
    r"""$\|H - n^{-1/2}\,YW\|$, with the point's own W."""
    b: Float[Tensor, "*batch"]
    r"""$\|b - 1/K\|$."""


def distances(
    W: Float[Tensor, "*batch K d"],
    H: Float[Tensor, "*batch N d"],
    b: Float[Tensor, "*batch K"],
    y: Int[Tensor, " N"],
) -> Distances:
    """The three distances of a point from strong neural collapse; all vanish there and only there.

    ValueError for shapes that do not fit, and for classes of unequal size.
    """
    arguments.shapes(W, H, b, y)
    K = W.shape[-2]
    n = len(y) // K
    if not bool((torch.bincount(y, minlength=K) == n).all()) or n == 0:
        raise ValueError("strong neural collapse is stated for classes of one size")
    target = sqrt(n) * (K - 1) / K * simplex_gram(K).to(W)
    return Distances(
        W=torch.linalg.matrix_norm(W @ W.mT - target),
        H=torch.linalg.matrix_norm(H - W[..., y, :] / sqrt(n)),
        b=torch.linalg.vector_norm(b - 1 / K, dim=-1),
    )


def strong_collapse(
    *, num_classes: int, per_class: int, d: int, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "K d"], Float[Tensor, "N d"], Float[Tensor, " K"]]:
    """A point (W, H, b) of strong neural collapse, rotated at random if a `generator` is given.

    Samples are sorted by class. float64. ValueError for K < 2, n < 1 or d < K - 1.
    """
    K, n = arguments.constants(num_classes, per_class)
    W = sqrt(sqrt(n) * (K - 1) / K) * simplex_etf(K, d, generator=generator)
    return W, W.repeat_interleave(n, dim=0) / sqrt(n), torch.full((K,), 1 / K, dtype=torch.float64)
