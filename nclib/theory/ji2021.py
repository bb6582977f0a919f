r"""Cross-entropy without weight decay and without bias: margins per squared norm (Ji et al., 2021).

Without decay the loss has no minimum: the parameters grow without end, and what can converge is their direction.
Gradient flow that fits all samples ends along a stationary point of the minimum-norm separation problem,

$$\min_{W, H}\ \tfrac12\bigl(\|W\|_F^2 + \|H\|_F^2\bigr)\quad\text{so that}\quad
  (w_{y_i} - w_j)^\top h_i \ge 1\ \text{ for all } i \text{ and } j \ne y_i .$$

Layout as in `nclib.theory.unconstrained`: rows of W (K, d) are classes, rows of H (N, d) samples. The loss is that
module's objective at lambda_W = lambda_H = 0.
"""

from math import sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nclib.geometry import simplex_etf
from nclib.theory import arguments


def margin(W: Float[Tensor, "K d"], H: Float[Tensor, "N d"], y: Int[Tensor, " N"]) -> Float[Tensor, ""]:
    r"""The smallest margin of all samples, $q = \min_i \min_{j \ne y_i} (w_{y_i} - w_j)^\top h_i$.

    Positive iff all samples are classified correctly; in units of the logits. ValueError for shapes that do not fit.
    """
    if H.shape != (len(y), W.shape[1]):
        found = f"H {tuple(H.shape)} and y {tuple(y.shape)}"
        raise ValueError(f"with W {tuple(W.shape)}, H must be (N, {W.shape[1]}) and y (N,); got {found}")
    Z = H @ W.T
    own = Z.gather(1, y[:, None])
    return (own - Z.scatter(1, y[:, None], -torch.inf)).min()


def normalised_margin(
    W: Float[Tensor, "K d"], H: Float[Tensor, "N d"], y: Int[Tensor, " N"]
) -> Float[Tensor, ""]:
    r"""The margin per squared norm, $q / (\|W\|_F^2 + \|H\|_F^2)$.

    The same for (aW, aH) as for (W, H); for n samples in each class at most `margin_bound`. NaN where both are
    zero. ValueError for shapes that do not fit.
    """
    return margin(W, H, y) / (W.square().sum() + H.square().sum())


def margin_bound(*, num_classes: int, per_class: int) -> float:
    r"""The largest normalised margin, $\frac{1}{2(K-1)\sqrt n}$, attained at neural collapse only.

    All $N(K-1)$ margins are at least q. Their sum is $K\sum_i (w_{y_i} - \bar w)^\top h_i$, $\bar w$ the mean row
    of W, and so at most $K\sqrt n\,\|W - 1\bar w^\top\|_F\|H\|_F$ (Cauchy-Schwarz)
    $\le \frac{K\sqrt n}{2}(\|W\|_F^2 + \|H\|_F^2)$. Equality asks for equal margins, $\bar w = 0$, $h_i$ along
    $w_{y_i}$ and equal norms of W and H. After Ji et al. (2021), Theorem 3.1. ValueError for K < 2 or n < 1.
    """
    K, n = arguments.constants(num_classes, per_class)
    return 1 / (2 * (K - 1) * sqrt(n))


def collapsed_direction(
    *, num_classes: int, per_class: int, d: int, generator: torch.Generator | None = None
) -> tuple[Float[Tensor, "K d"], Float[Tensor, "N d"]]:
    r"""A solution (W, H) of the minimum-norm separation problem, rotated at random if a `generator` is given.

    W is a simplex ETF with $\|W\|_F^2 = (K-1)\sqrt n$, and rows of H are their class's row of W over $\sqrt n$:
    every margin is 1. Samples are sorted by class. float64. ValueError for K < 2, n < 1 or d < K - 1.
    """
    K, n = arguments.constants(num_classes, per_class)
    norm_squared = (K - 1) * sqrt(n)
    W = sqrt(norm_squared / K) * simplex_etf(K, d, generator=generator)
    # ||H||^2 = ||W||^2, from n rows for each of W's.
    return W, W.repeat_interleave(n, dim=0) / sqrt(n)


def conserved(W: Float[Tensor, "K d"], H: Float[Tensor, "N d"]) -> Float[Tensor, "d d"]:
    r"""What gradient flow keeps, $W^\top W - H^\top H$.

    With G the loss's gradient by the logits, $\dot W = -G^\top H$ and $\dot H = -GW$, so that both products change by
    $-(W^\top G^\top H + H^\top G W)$, whatever the loss. Gradient descent with step s changes it by $O(s^2)$ a step,
    $O(s)$ over a given time. Weight decay shrinks it. Ji et al. (2021). ValueError where W and H differ in d.
    """
    if W.shape[1] != H.shape[1]:
        raise ValueError(f"W {tuple(W.shape)} and H {tuple(H.shape)} must have the same number of columns")
    return W.T @ W - H.T @ H
