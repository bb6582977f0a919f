"""Descent of the unconstrained-feature model from many starts at once: to minima, or to any critical point.

Nothing is assumed about the classes, so that what a random start ends in is evidence about the landscape.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nclib.theory.batched import Balanced, Points, Problem
from nclib.theory.lbfgs import minimise
from nclib.theory.zhu2021 import GlobalMinimum, global_minimum

METHODS = {"lbfgs": 8, "barzilai_borwein": 0}
"""Steps that each method remembers; for L-BFGS ours: with 4 it takes a fifth more steps at K = 1000."""


@dataclass(frozen=True, kw_only=True)
class Solutions:
    """Where B restarts ended, in the order of their starts."""

    points: Points
    value: Float[Tensor, " B"]
    """f."""
    gradient_norm: Float[Tensor, " B"]
    """Norm of the gradient of f by W, all of H, and b."""
    iterations: Int[Tensor, " B"]
    converged: Bool[Tensor, " B"]
    """Whether the gradient norm is at most the tolerance, or the value at most the goal if one was given."""


def descend(
    problem: Problem,
    starts: Points,
    *,
    method: str = "lbfgs",
    averaged: bool = True,
    tolerance: float = 1e-8,
    goal: float | Float[Tensor, " B"] | None = None,
    max_evaluations: int = 10_000,
) -> Solutions:
    """Minimise f from every start, each with its own line search, until its gradient norm is at most `tolerance`.

    `averaged` begins by averaging every class's features, which never raises f and loses no critical point
    (`nclib.theory.batched` says why); without it every sample keeps features of its own, at n times the cost.
    A restart also ends where f is at most its `goal`, and unconverged after `max_evaluations` or where rounding
    leaves no step. ValueError for an unknown method, a tolerance <= 0 or starts that do not fit or are not finite.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    function, x = _begin(problem, starts, tolerance, averaged=averaged)
    if goal is not None:
        goal = torch.as_tensor(goal, dtype=x.dtype, device=x.device).expand(len(x))
    found = minimise(
        function, x, tolerance=tolerance, max_evaluations=max_evaluations, history=METHODS[method], goal=goal
    )
    return _solutions(function, found.x, found.iterations, found.converged)


def critical_points(
    problem: Problem, starts: Points, *, tolerance: float = 1e-8, max_evaluations: int = 20_000
) -> Solutions:
    r"""Minimise $\frac12\|\nabla f\|^2$ from every start, so that saddles are found as well as minima.

    Its gradient is a Hessian-vector product, of the gradient itself. A restart that ends in a local minimum of
    that norm where it is not zero is returned as not converged. Features are averaged within classes, as all
    critical points are. No Hessian is formed, so that many starts and large problems are searched at once;
    `nclib.theory.critical_points.nearest` forms it, and takes one small problem to rounding without averaging.
    ValueError for a tolerance <= 0 or starts that do not fit or are not finite.
    """
    function, x = _begin(problem, starts, tolerance, averaged=True)
    found = minimise(
        _SquaredGradient(function), x, tolerance=tolerance, max_evaluations=max_evaluations, history=20
    )
    return _solutions(function, found.x, found.iterations, found.converged)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What descent reached at one point of the phase diagram, and what theory predicts there."""

    predicted: GlobalMinimum
    """With K, n and both lambdas."""
    value: float
    """The smallest f of the restarts."""
    margin: float
    """Its mean logit of the true class minus that of the others."""
    converged: int
    """How many restarts did."""


def phase_diagram(
    *,
    num_classes: int,
    feature_dim: int,
    per_class: Sequence[int],
    lambda_W: Sequence[float],
    lambda_H: Sequence[float],
    restarts: int,
    generator: torch.Generator,
    tolerance: float = 1e-8,
) -> list[Phase]:
    """The optimum reached at every (n, lambda_W, lambda_H), in this order, without regularising the bias.

    All lambdas of one n are descended as one batch, from the same random starts. ValueError as for `Problem`.
    """
    pairs = [(by_W, by_H) for by_W in lambda_W for by_H in lambda_H]
    by_restart = torch.tensor(pairs, dtype=torch.float64).repeat_interleave(restarts, dim=0)
    phases = []
    for n in per_class:
        problem = Problem(
            num_classes=num_classes, per_class=n, feature_dim=feature_dim,
            lambda_W=by_restart[:, 0], lambda_H=by_restart[:, 1],
        )  # fmt: skip
        drawn = problem.draw(restarts, generator)
        found = descend(problem, Points(*(torch.cat([p] * len(pairs)) for p in drawn)), tolerance=tolerance)
        for i, (by_W, by_H) in enumerate(pairs):
            rows = slice(i * restarts, (i + 1) * restarts)
            best = i * restarts + int(found.value[rows].argmin())
            phases.append(
                Phase(
                    predicted=global_minimum(
                        num_classes=num_classes, per_class=n, lambda_W=by_W, lambda_H=by_H
                    ),
                    value=float(found.value[best]),
                    margin=_margin(found.points, best),
                    converged=int(found.converged[rows].sum()),
                )
            )
    return phases


class _SquaredGradient:
    """Half the squared norm of the gradient, by balanced coordinates; f's own gradient norm decides."""

    def __init__(self, function: Balanced):
        self._function = function

    def evaluate(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, gradient, norm = self._function.evaluate(x)
        return gradient.square().sum(1) / 2, self._function.hessian_product(x, gradient), norm

    def take(self, rows: Tensor) -> "_SquaredGradient":
        return _SquaredGradient(self._function.take(rows))


def _begin(problem: Problem, starts: Points, tolerance: float, *, averaged: bool) -> tuple[Balanced, Tensor]:
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    function = Balanced(problem, starts, averaged=averaged)
    x = function.encode(starts)
    if not bool(x.isfinite().all()):
        raise ValueError("starts must be finite")
    return function, x


def _solutions(function: Balanced, x: Tensor, iterations: Tensor, converged: Tensor) -> Solutions:
    value, _, norm = function.evaluate(x)
    return Solutions(
        points=function.decode(x), value=value, gradient_norm=norm, iterations=iterations, converged=converged
    )


def _margin(points: Points, restart: int) -> float:
    W, H, b = (part[restart] for part in points)
    K = len(W)
    logits = (H @ W.T + b).unflatten(0, (K, -1)).mean(1)
    own = logits.diagonal()
    return float((own - (logits.sum(1) - own) / (K - 1)).mean())
