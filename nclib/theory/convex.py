r"""The convex problem beneath an unconstrained-feature objective, which says what its global minima are.

Let $\ell$ be a convex loss of the logits $Z = HW^\top$ and $\tau = \sqrt{\lambda_W\lambda_H}$. For any factors
$\frac{\lambda_W}{2}\|W\|_F^2 + \frac{\lambda_H}{2}\|H\|_F^2 \ge \tau\|W\|_F\|H\|_F \ge \tau\|Z\|_*$, so the objective
is never below $\ell(Z) + \tau\|Z\|_*$, its convex partner, and equals it where the factors are balanced:
$\lambda_W W^\top W = \lambda_H H^\top H$. A critical point whose $Z$ minimises the partner is a global minimum of both.
Zhu et al. (2021), appendix; Srebro (2004). Rows of Z and H are samples, as in `nclib.theory.unconstrained`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import hypot, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from nclib.theory import arguments


def convex_partner(
    Z: Float[Tensor, "N K"],
    y: Int[Tensor, " N"],
    b: Float[Tensor, " K"] | None = None,
    *,
    lambda_W: float,
    lambda_H: float,
    lambda_b: float = 0.0,
) -> Float[Tensor, ""]:
    r"""The convex partner of f with cross-entropy.

    $$\frac1N\sum_i \mathrm{CE}(z_i + b, y_i) + \sqrt{\lambda_W\lambda_H}\,\|Z\|_* + \frac{\lambda_b}{2}\|b\|^2
    \;\le\; f(W, H, b) \quad\text{whenever } Z = HW^\top.$$

    Z excludes the bias. Its minimum is that of f for d >= K - 1. Zhu et al. (2021), appendix. ValueError for
    shapes that do not fit, entries that are not finite, labels that are no classes, a lambda_b below zero or another
    lambda that is not positive.
    """
    lambda_W, lambda_H = arguments.positive(lambda_W=lambda_W, lambda_H=lambda_H)
    (lambda_b,) = arguments.non_negative(lambda_b=lambda_b)
    if Z.ndim != 2 or len(Z) != len(y) or (b is not None and b.shape != Z.shape[1:]):
        found = f"Z {tuple(Z.shape)}, y {tuple(y.shape)}, b {None if b is None else tuple(b.shape)}"
        raise ValueError(f"Z must be (N, K), y (N,) and b (K,); got {found}")
    arguments.finite(Z=Z, b=b)
    y = arguments.labels(y, Z.shape[1])
    nuclear_norm = torch.linalg.matrix_norm(Z, "nuc")
    value = functional.cross_entropy(Z if b is None else Z + b, y)
    value = value + sqrt(lambda_W) * sqrt(lambda_H) * nuclear_norm
    return value if b is None else value + lambda_b / 2 * b.square().sum()


def balanced_factors(
    Z: Float[Tensor, "N K"], d: int, *, lambda_W: float, lambda_H: float
) -> tuple[Float[Tensor, "K d"], Float[Tensor, "N d"]]:
    r"""The factors (W, H) of $Z = HW^\top$ in d dimensions that cost least.

    With $Z = USV^\top$: $W = (\lambda_H/\lambda_W)^{1/4} V S^{1/2}$, $H = (\lambda_W/\lambda_H)^{1/4} U S^{1/2}$, and
    then $\frac{\lambda_W}{2}\|W\|_F^2 + \frac{\lambda_H}{2}\|H\|_F^2 = \sqrt{\lambda_W\lambda_H}\,\|Z\|_*$. ValueError
    where Z has more than d singular values above 1e-12 of the largest, for a lambda <= 0 and a Z that is not finite.
    """
    lambda_W, lambda_H = arguments.positive(lambda_W=lambda_W, lambda_H=lambda_H)
    arguments.finite(Z=Z)
    U, s, Vh = torch.linalg.svd(Z, full_matrices=False)
    rank = int((s > 1e-12 * s[0]).sum())
    if rank > d:
        raise ValueError(f"Z has rank {rank}: it has no factors in d={d} dimensions")
    root = s[:d].sqrt()
    ratio = (sqrt(lambda_H) / sqrt(lambda_W)) ** 0.5
    unused = (0, max(0, d - len(s)))
    return functional.pad(ratio * Vh[:d].T * root, unused), functional.pad(U[:, :d] * root / ratio, unused)


def subgradient_violation(Z: Float[Tensor, "N K"], G: Float[Tensor, "N K"], weight: float) -> float:
    r"""How far Z is from minimising $\ell(Z) + \tau\|Z\|_*$, with G the gradient of $\ell$ at Z and $\tau$ = `weight`.

    Z is a minimiser iff $-G \in \tau\,\partial\|Z\|_*$, which is to say $\|G\|_2 \le \tau$ and
    $-\langle G, Z\rangle = \tau\|Z\|_*$: the dual form needs no decision on the rank of Z. Returned is the larger of
    the two errors, relative to $\tau$ and to $\tau\|Z\|_*$; without unit, negative only inside the ball at Z = 0.
    Where the loss has a free bias, G's column sums must vanish besides.
    """
    outside = torch.linalg.matrix_norm(G, 2).item() / weight - 1
    norm = torch.linalg.matrix_norm(Z, "nuc").item()
    if norm == 0:
        return outside
    return max(outside, abs((G * Z).sum().item() / (weight * norm) + 1))


BLUR = 1e-3
"""Ours: how far a gradient that is not quite zero may move the certificate's ratio before it decides nothing."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    r"""What decides whether a critical point is a global minimum.

    At a critical point other than zero the spectral norm is at least the threshold, with equality only at the
    global minima.
    """

    spectral_norm: float
    r"""$\|\nabla\ell\|_2$ of the gradient by the logits, $\nabla g$ for cross-entropy."""
    threshold: float
    r"""The nuclear norm's weight in the convex partner, $\sqrt{\lambda_W\lambda_H}$ for cross-entropy."""
    gradient_norm: float
    """Norm of the gradient of f by all parameters."""
    rank: int
    """Rank of W: singular values above 1e-4 of the larger of 1 and the largest."""
    blur: float
    r"""How far the gradient may have moved the ratio of the two norms; see `certify`."""
    decides: bool
    """Whether the gradient is small enough, held against the pull of the decays, to call the point critical."""
    is_global: bool
    """decides, and spectral_norm <= (1 + tolerance + blur) * threshold."""


def certify(
    G: Float[Tensor, "N K"],
    W: Float[Tensor, "K d"],
    H: Float[Tensor, "N d"],
    by_parameter: Iterable[Tensor | None],
    lambda_W: float,
    lambda_H: float,
    tolerance: float,
) -> Certificate:
    r"""The certificate of a point with gradient G by the logits and `by_parameter` by what is trained.

    A gradient of norm g is held against two sizes. One is the pull of the decays,
    $\|(\lambda_W W, \lambda_H H)\|$, which it must cancel at a critical point. The other is the weakest direction of
    W: as $GW = \nabla_H f - \lambda_H H$, it moves the ratio of the two norms by about the blur $g / (s\tau)$, with
    s the smallest singular value of W that its rank counts and $\tau = \sqrt{\lambda_W\lambda_H}$. The certificate
    decides where neither share exceeds `BLUR`; at rank 0, where there is no pull to cancel, where g is at most
    `tolerance`.
    """
    threshold = sqrt(lambda_W) * sqrt(lambda_H)
    norm = torch.linalg.matrix_norm(G, 2).item()
    gradient_norm = hypot(*(part.norm().item() for part in by_parameter if part is not None))
    singular = torch.linalg.svdvals(W)
    rank = int((singular > 1e-4 * singular[0].clamp_min(1.0)).sum())
    if rank:
        pull = hypot(lambda_W * W.norm().item(), lambda_H * H.norm().item())
        blur = gradient_norm / (singular[rank - 1].item() * threshold)
        decides = gradient_norm <= BLUR * pull and blur <= BLUR
    else:
        blur, decides = 0.0, gradient_norm <= tolerance
    return Certificate(
        spectral_norm=norm,
        threshold=threshold,
        gradient_norm=gradient_norm,
        rank=rank,
        blur=blur,
        decides=decides,
        is_global=decides and norm <= (1 + tolerance + blur) * threshold,
    )
