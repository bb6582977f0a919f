r"""Critical points of the unconstrained-feature objective with cross-entropy, and how many of them are minima.

Layout and f as in `nclib.theory.unconstrained`. All in float64.
"""

from collections.abc import Iterable
from math import log, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nclib.geometry import simplex_etf
from nclib.theory import arguments
from nclib.theory.unconstrained import gradient, hessian_vector_product

Point = tuple[Float[Tensor, "K d"], Float[Tensor, "N d"], Float[Tensor, " K"]]


def grouped(
    *,
    num_classes: int,
    per_class: int,
    lambda_W: float,
    lambda_H: float,
    groups: int,
    d: int,
    generator: torch.Generator | None = None,
) -> Point:
    r"""The critical point (W, H, b) at which `groups` equal groups of classes form a simplex and share their vertices.

    With $s = K/\text{groups}$ classes in a group and $t = \sqrt{n\lambda_W\lambda_H}$, $Kt < 1$: logits of other groups
    are lower by $x = \ln(1/(st) - (K-s)/s)$, $\|W\|_F^2 = (K-s)\,t\,x/\lambda_W$ and $h_i = a\,w_{y_i}$,
    $a = \sqrt{\lambda_W/(n\lambda_H)}$. One group is the origin, K groups are the global minimum; in between
    $\|\nabla g\|_2 = 1/(K\sqrt n)$, as at the origin, and all are strict saddles. Samples are sorted by class, rotated
    at random if a `generator` is given. Ours. ValueError where `groups` does not divide K, d < groups - 1, $Kt \ge 1$
    with more than one group, or a constant is out of range.
    """
    K, n, lambda_W, lambda_H = arguments.constants(
        num_classes, per_class, lambda_W=lambda_W, lambda_H=lambda_H
    )
    groups = arguments.size("groups", groups, 1)
    if K % groups:
        raise ValueError(f"groups must divide num_classes={K}, got {groups}")
    b = torch.zeros(K, dtype=torch.float64)
    if groups == 1:
        return b.new_zeros(K, d), b.new_zeros(K * n, d), b
    s, t = K // groups, sqrt(n) * sqrt(lambda_W) * sqrt(lambda_H)
    if K * t >= 1:
        raise ValueError(f"beyond the collapse threshold (K t = {K * t:.3g}) only the origin is critical")
    x = log(1 / (s * t) - (K - s) / s)
    vertices = simplex_etf(groups, d, generator=generator).repeat_interleave(s, dim=0)
    W = sqrt((K - s) * t * x / (lambda_W * K)) * vertices
    return W, sqrt(lambda_W / (n * lambda_H)) * W.repeat_interleave(n, dim=0), b


def hessian(
    W: Float[Tensor, "K d"],
    H: Float[Tensor, "N d"],
    b: Float[Tensor, " K"],
    y: Int[Tensor, " N"],
    *,
    lambda_W: float,
    lambda_H: float,
) -> Float[Tensor, "P P"]:
    """The matrix of second derivatives of f by all P entries of W, H and b, in this order, row by row.

    For small problems: P Hessian-vector products at once, of the P unit vectors. ValueError as in
    `nclib.theory.unconstrained`.
    """
    shapes = [part.shape for part in (W, H, b)]
    units = torch.eye(sum(shape.numel() for shape in shapes)).to(W)
    decays = {"lambda_W": lambda_W, "lambda_H": lambda_H}
    products = hessian_vector_product(W, H, b, y, *_unpacked(units, shapes), **decays)
    return torch.cat([part.flatten(1) for part in products], dim=1)


def nearest(
    W: Float[Tensor, "K d"],
    H: Float[Tensor, "N d"],
    b: Float[Tensor, " K"],
    y: Int[Tensor, " N"],
    *,
    lambda_W: float,
    lambda_H: float,
    steps: int = 100,
    tolerance: float = 1e-13,
) -> Point | None:
    r"""A critical point (W, H, b) of f near the given one, be it a minimum or a saddle; None where none is found.

    Newton's method on $\nabla f = 0$, which does not care for the value of f, damped as by Levenberg and Marquardt:
    $((\nabla^2 f)^2 + \mu I)\,\delta = -\nabla^2 f\,\nabla f$ with $\mu$ in proportion to $\|\nabla f\|$. It
    stops at $\|\nabla f\| \le$ `tolerance`, entries below 1e-10 then being zero, or without success after `steps`. For
    small problems: the Hessian is formed. One start at a time, every sample with features of its own and to rounding,
    so that identities and ranks can be tried on the point; `nclib.theory.solver.critical_points` takes many starts and
    larger problems, to what a gradient without Hessian reaches.
    """
    shapes = [part.shape for part in (W, H, b)]

    decays = {"lambda_W": lambda_W, "lambda_H": lambda_H}
    x, mu = _packed((W, H, b)), 1e-2
    slope = _packed(gradient(W, H, b, y, **decays))
    for _ in range(steps):
        if slope.norm() <= tolerance:
            # At the origin the last step leaves rounding, whose rank would be anyone's guess.
            return tuple(_unpacked(torch.where(x.abs() < 1e-10, 0.0, x), shapes))
        # f has flat directions (rotations, a shift of b), so the Hessian alone could not be inverted.
        values, axes = torch.linalg.eigh(hessian(*_unpacked(x, shapes), y, **decays))
        trial = x - axes @ (values / (values.square() + mu * slope.norm()) * (axes.T @ slope))
        trial_slope = _packed(gradient(*_unpacked(trial, shapes), y, **decays))
        if trial_slope.norm() < slope.norm():
            x, slope, mu = trial, trial_slope, mu / 5
        else:
            mu *= 10
    return None


def _packed(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _unpacked(x: Tensor, shapes: list[torch.Size]) -> list[Tensor]:
    parts = x.split([shape.numel() for shape in shapes], dim=-1)
    return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]
