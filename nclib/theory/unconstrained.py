r"""The unconstrained-feature objective with cross-entropy and its derivatives, written out.

$$f(W, H, b) = \frac1N \sum_{i=1}^N \mathrm{CE}(W h_i + b, y_i) + \frac{\lambda_W}{2}\|W\|_F^2
  + \frac{\lambda_H}{2}\|H\|_F^2 + \frac{\lambda_b}{2}\|b\|^2.$$

Layout: W is (K, d); H is (N, d) with one row per sample, the transpose of the papers' matrix; b is (K,) or
None; y is (N,), integers of any width from 0 to K - 1. Results have the dtype of the parameters. ValueError for shapes
that do not fit, an entry that is not finite, a label that is no class and a lambda below zero.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from nclib.theory import arguments


def objective(
    W: Float[Tensor, "K d"],
    H: Float[Tensor, "N d"],
    b: Float[Tensor, " K"] | None,
    y: Int[Tensor, " N"],
    *,
    lambda_W: float,
    lambda_H: float,
    lambda_b: float = 0.0,
) -> Float[Tensor, ""]:
    """f(W, H, b), differentiable by autograd."""
    lambda_W, lambda_H, lambda_b = arguments.non_negative(
        lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b
    )
    y = arguments.point(W, H, b, y)
    value = functional.cross_entropy(functional.linear(H, W, b), y)
    value = value + lambda_W / 2 * W.square().sum() + lambda_H / 2 * H.square().sum()
    return value if b is None else value + lambda_b / 2 * b.square().sum()


def gradient(
    W: Float[Tensor, "K d"],
    H: Float[Tensor, "N d"],
    b: Float[Tensor, " K"] | None,
    y: Int[Tensor, " N"],
    *,
    lambda_W: float,
    lambda_H: float,
    lambda_b: float = 0.0,
) -> tuple[Float[Tensor, "K d"], Float[Tensor, "N d"], Float[Tensor, " K"] | None]:
    """The gradient of f by (W, H, b); the last is None without a bias."""
    lambda_W, lambda_H, lambda_b = arguments.non_negative(
        lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b
    )
    G, _ = logit_gradient(W, H, b, y)
    grad_b = None if b is None else G.sum(0) + lambda_b * b
    return G.T @ H + lambda_W * W, G @ W + lambda_H * H, grad_b


def hessian_vector_product(
    W: Float[Tensor, "K d"],
    H: Float[Tensor, "N d"],
    b: Float[Tensor, " K"] | None,
    y: Int[Tensor, " N"],
    delta_W: Float[Tensor, "*batch K d"],
    delta_H: Float[Tensor, "*batch N d"],
    delta_b: Float[Tensor, "*batch K"] | None = None,
    *,
    lambda_W: float,
    lambda_H: float,
    lambda_b: float = 0.0,
) -> tuple[Float[Tensor, "*batch K d"], Float[Tensor, "*batch N d"], Float[Tensor, "*batch K"] | None]:
    """The Hessian of f applied to (delta_W, delta_H, delta_b), or to many at once; a missing delta_b is zero."""
    lambda_W, lambda_H, lambda_b = arguments.non_negative(
        lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b
    )
    G, P = logit_gradient(W, H, b, y)
    delta_Z = H @ delta_W.mT + delta_H @ W.T
    if delta_b is not None:
        delta_Z = delta_Z + delta_b.unsqueeze(-2)
    # The derivative of the softmax, P (dZ - <P, dZ>), row by row.
    delta_G = P * (delta_Z - (P * delta_Z).sum(-1, keepdim=True)) / len(y)
    by_W = delta_G.mT @ H + G.T @ delta_H + lambda_W * delta_W
    by_H = delta_G @ W + G @ delta_W + lambda_H * delta_H
    if b is None:
        return by_W, by_H, None
    return by_W, by_H, delta_G.sum(-2) + (0 if delta_b is None else lambda_b * delta_b)


def logit_gradient(
    W: Float[Tensor, "K d"], H: Float[Tensor, "N d"], b: Float[Tensor, " K"] | None, y: Int[Tensor, " N"]
) -> tuple[Float[Tensor, "N K"], Float[Tensor, "N K"]]:
    """The gradient of the mean cross-entropy by the logits, and the softmax."""
    y = arguments.point(W, H, b, y)
    P = torch.softmax(functional.linear(H, W, b), dim=1)
    others = P.scatter(1, y[:, None], 0.0)
    # p_y - 1 as minus the rest: near a perfect fit the direct difference has no digits left.
    return others.scatter(1, y[:, None], -others.sum(1, keepdim=True)) / len(y), P
