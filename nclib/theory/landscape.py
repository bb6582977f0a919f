"""What kind of critical point of the unconstrained-feature model a solution is: by certificate and by Hessian."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nclib.theory.batched import Balanced, Points, Problem
from nclib.theory.solver import Solutions
from nclib.theory.zhu2021 import Certificate, certificate, global_minimum

BLUR = 1e-3
"""How far a gradient that is not quite zero may move the certificate's ratio before it decides nothing."""


@dataclass(frozen=True, kw_only=True)
class CriticalPoint:
    """A solution's place in the landscape."""

    excess: float
    """f / f* - 1, f* the closed form's minimum, which holds for d >= K - 1."""
    certificate: Certificate
    rank: int
    """Rank of W: singular values above 1e-4 of the larger of 1 and the largest."""
    eigenvalue: float
    """Smallest eigenvalue of the Hessian of f by (W, H, b), without those of `zero_modes`."""
    negative: int
    """How many of the eigenvalues seen are below -tolerance; a free dimension is seen once, however many."""
    zero_modes: int
    """Directions along which f cannot change: rotations of feature space that move W and H, and a free bias."""
    kind: str
    """One of "global minimum", "saddle", "other local minimum" and "not critical"."""


def classify(problem: Problem, solutions: Solutions, *, tolerance: float = 1e-6) -> list[CriticalPoint]:
    r"""The certificate, rank and lowest curvature of every solution, and so its kind.

    The Hessian is taken at class-averaged features (other directions curve up by at least lambda_H) and in the
    span of the rows of W and H with one more dimension, since all dimensions orthogonal to them are alike. It is
    dense there: (2 K (r + 1) + K)^2 numbers at rank r. Of its eigenvalues the `zero_modes` nearest to zero are
    left out; a saddle has one below -tolerance, and a point whose gradient norm exceeds the tolerance is not
    critical. A global minimum is no saddle and satisfies the certificate (`nclib.theory.zhu2021.certificate`) as far
    as its gradient lets it: $GW = \nabla_H f - \lambda_H H$, so that a gradient of norm g moves the certificate's
    ratio by about $g / (s\sqrt{\lambda_W\lambda_H})$, s the smallest singular value of W that its rank counts. Where
    that is more than `BLUR` the certificate decides nothing, and the point is not critical enough.
    An "other local minimum" is what theory excludes for d > K. ValueError for solutions that do not fit.
    """
    found = []
    for restart in range(len(solutions.value)):
        W, H, b = (None if part is None else part[restart] for part in solutions.points)
        lambdas = problem.lambdas_of(restart)
        y = torch.arange(problem.num_classes, device=W.device).repeat_interleave(problem.per_class)
        verdict = certificate(W, H, b, y, **lambdas, tolerance=tolerance)
        optimum = global_minimum(
            num_classes=problem.num_classes, per_class=problem.per_class,
            lambda_W=lambdas["lambda_W"], lambda_H=lambdas["lambda_H"],
        )  # fmt: skip
        singular = torch.linalg.svdvals(W)
        rank = int((singular > 1e-4 * singular[0].clamp_min(1.0)).sum())
        blur = verdict.gradient_norm / (float(singular[rank - 1]) * verdict.threshold) if rank else 0.0
        d = min(problem.feature_dim, rank + 1)
        zero_modes = rank * (rank - 1) // 2 + rank * (d - rank)
        zero_modes += problem.lambda_b is not None and lambdas["lambda_b"] == 0
        spectrum = _spectrum(problem, W, H, b, lambdas, d)
        kept = spectrum[spectrum.abs().argsort()[zero_modes:]]
        lowest, negative = float(kept.min()), int((kept < -tolerance).sum())
        if verdict.gradient_norm > tolerance:
            kind = "not critical"
        elif negative:
            kind = "saddle"
        elif blur > BLUR:
            kind = "not critical"
        else:
            certified = verdict.spectral_norm <= (1 + tolerance + blur) * verdict.threshold
            kind = "global minimum" if certified else "other local minimum"
        found.append(
            CriticalPoint(
                excess=float(solutions.value[restart]) / optimum.value - 1,
                certificate=verdict,
                rank=rank,
                eigenvalue=lowest,
                negative=negative,
                zero_modes=zero_modes,
                kind=kind,
            )
        )
    return found


def _spectrum(
    problem: Problem, W: Tensor, H: Tensor, b: Tensor | None, lambdas: dict[str, float], d: int
) -> Float[Tensor, " P"]:
    """Eigenvalues of the Hessian in the first d right singular directions of W, which at a critical point are H's."""
    axes = torch.linalg.svd(W)[2][:d].T
    part = Problem(
        num_classes=problem.num_classes, per_class=problem.per_class, feature_dim=d,
        lambda_W=lambdas["lambda_W"], lambda_H=lambdas["lambda_H"],
        lambda_b=None if b is None else lambdas["lambda_b"],
    )  # fmt: skip
    point = Points((W @ axes)[None], (H @ axes)[None], None if b is None else b[None])
    function = Balanced(part, point)
    x = function.encode(point)
    P = x.shape[1]
    every = function.take(torch.zeros(P, dtype=torch.int64, device=x.device))
    hessian = every.hessian_product(x.expand(P, P), torch.eye(P).to(x))
    units = function.units()
    return torch.linalg.eigvalsh(units.mT * ((hessian + hessian.mT) / 2) * units)
