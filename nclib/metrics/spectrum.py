"""Effective dimensions: how many directions a positive semi-definite matrix really uses."""

import torch
from jaxtyping import Float
from torch import Tensor


def participation_ratio(A: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    r"""$(\mathrm{tr} A)^2/\|A\|_F^2 = (\sum_i \lambda_i)^2 / \sum_i \lambda_i^2$ of a symmetric matrix.

    In [1, rank] where A is positive semi-definite, and the rank when all non-zero eigenvalues are equal. NaN
    for the zero matrix.
    """
    A = A.double()
    return torch.trace(A).square() / A.square().sum()


def effective_rank(A: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    r"""$\exp(-\sum_i p_i \log p_i)$, $p_i = \lambda_i/\sum_j\lambda_j$, of a positive semi-definite matrix.

    Roy & Vetterli (2007), on eigenvalues. In [1, rank]; NaN for the zero matrix.
    """
    eigenvalues = torch.linalg.eigvalsh(A.double()).clamp(min=0)
    p = eigenvalues / eigenvalues.sum()
    return torch.special.entr(p).sum().exp()
