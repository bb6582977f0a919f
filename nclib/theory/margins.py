r"""The cross-entropy bounded by mean margins, and what that leaves of the unconstrained-feature objective: one number.

The margins of a sample are the differences between its right logit and the K - 1 others; everything here depends on
their mean alone. Natural logarithms throughout. All in float64.
"""

from math import log, log1p

import torch
from jaxtyping import Float, Int
from torch import Tensor


def mean_margins(Z: Float[Tensor, "N K"], y: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    r"""The mean margin of each sample, $m_i = \frac{1}{K-1}\sum_{j \ne y_i}(z_{iy_i} - z_{ij})$.

    In units of the logits; equal to $\frac{K}{K-1}(z_{iy_i} - \bar z_i)$. ValueError for fewer than two classes or
    shapes that do not fit.
    """
    if Z.shape[1] < 2 or len(Z) != len(y):
        raise ValueError(
            f"Z must be (N, K) with K >= 2 and y (N,); got {tuple(Z.shape)} and {tuple(y.shape)}"
        )
    K = Z.shape[1]
    return K / (K - 1) * (Z.gather(1, y[:, None])[:, 0] - Z.mean(1))


def phi(m: float | Float[Tensor, "..."], K: int) -> Float[Tensor, "..."]:
    r"""The least cross-entropy of a sample of K classes with mean margin m, $\varphi(m) = \ln(1 + (K-1)e^{-m})$.

    Attained when all wrong logits are equal. Strictly decreasing and strictly convex. ValueError for K < 2.
    """
    _check_classes(K)
    m = torch.as_tensor(m, dtype=torch.float64)
    return torch.logaddexp(torch.zeros_like(m), log(K - 1) - m)


def tangent(m: float | Float[Tensor, "..."], K: int, c1: float) -> Float[Tensor, "..."]:
    r"""The tangent of $\varphi$ that touches at $m_0 = \ln((K-1)c_1)$, $-\frac{m}{1+c_1} + c_2$.

    $c_2 = \frac{\ln((1+c_1)(K-1))}{1+c_1} + \frac{c_1}{1+c_1}\ln\frac{1+c_1}{c_1}$: the linear bound of Zhu et al.
    (2021), appendix. ValueError for K < 2 or a c1 that is not positive.
    """
    _check_classes(K)
    if not c1 > 0:
        raise ValueError(f"c1 must be positive, got {c1}")
    c2 = (log1p(c1) + log(K - 1)) / (1 + c1) + c1 / (1 + c1) * log1p(1 / c1)
    return c2 - torch.as_tensor(m, dtype=torch.float64) / (1 + c1)


def psi(x: float | Float[Tensor, "..."], K: int, t: float) -> Float[Tensor, "..."]:
    r"""A lower bound on f by one number, $\psi(x) = \varphi(x) + (K-1)\,t\,x$, $x = \|W\|\|H\| / ((K-1)\sqrt n)$.

    $t = \sqrt{n\lambda_W\lambda_H}$. Its minimum over x >= 0 is at $x = \ln(1/t - (K-1))$ for $Kt < 1$ and at zero
    otherwise; f attains it for d >= K - 1 or $Kt \ge 1$, and stays above it elsewhere. ValueError for K < 2.
    """
    return phi(x, K) + (K - 1) * t * torch.as_tensor(x, dtype=torch.float64)


def _check_classes(K: int) -> None:
    if K < 2:
        raise ValueError(f"K must be at least 2, got {K}")
