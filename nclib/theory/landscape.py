"""What kind of critical point of the unconstrained-feature model a solution is: by certificate and by Hessian."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nclib.theory.batched import Balanced, Points, Problem
from nclib.theory.solver import Solutions
from nclib.theory.zhu2021 import Certificate, certificate, global_minimum


@dataclass(frozen=True, kw_only=True)
class CriticalPoint:
    """A solution's place in the landscape."""

    excess: float
    """f / f* - 1, f* the closed form's minimum, which holds for d >= K - 1."""
    certificate: Certificate
    rank: int
    """Rank of W, as the certificate counts it."""
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
    left out. A point whose gradient norm exceeds the tolerance is not critical; one with an eigenvalue below
    -tolerance is a saddle. Of the rest, one is not critical where the certificate does not decide, its gradient being
    large against the pull of the decays or the weakest direction of W (`nclib.theory.convex.certify`); a global minimum
    is certified, and what remains is an "other local minimum". Theory excludes that kind for d >= K - 1; in fewer
    dimensions no point below the collapse threshold is certified, and the best ones are of it, too. ValueError for
    solutions that do not fit.
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
        rank = verdict.rank
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
        elif not verdict.decides:
            kind = "not critical"
        else:
            kind = "global minimum" if verdict.is_global else "other local minimum"
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
